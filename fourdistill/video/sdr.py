"""Convert high dynamic range and wide colour to sRGB for JPEGs, after ITU-R BT.2100, BT.2408 and BT.2020.

Light is scene light relative to diffuse white (1), which HLG encodes as 75 % and PQ as 203 cd/m2. Mid grey (0.18) thus
gets its usual sRGB value. A shoulder compresses highlights, to make room for light brighter than white.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from fourdistill.geometry.poses import Array

HLG, PQ, SDR = "HLG", "PQ", "SDR"

_HLG_A, _HLG_B, _HLG_C = 0.17883277, 0.28466892, 0.55991073  # BT.2100, table 5
_PQ_M1, _PQ_M2, _PQ_C1, _PQ_C2, _PQ_C3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875  # table 4
_SYSTEM_GAMMA, _NOMINAL_PEAK = 1.2, 1000.0  # of the HLG display; cd/m2
_HLG_WHITE, _PQ_WHITE = 0.75, 203.0  # BT.2408, table 1: signal, cd/m2
_KNEE = 0.8  # relative to diffuse white: light below is unchanged
_BT709_FROM_BT2020 = np.array(  # for linear light, BT.2087
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]]
)


def to_sdr(image: NDArray[np.uint16], transfer: str, wide_gamut: bool) -> NDArray[np.uint8]:
    """16-bit RGB (H, W, 3) with `transfer` HLG, PQ or SDR, and BT.2020 primaries if `wide_gamut` => 8-bit sRGB."""
    light = _light(transfer)[image]
    if wide_gamut:
        light = np.einsum("ij,hwj->hwi", _BT709_FROM_BT2020.astype(np.float32), light)
    light = np.maximum(light, 0.0)
    signal = _bt709_signal(light) if transfer == SDR else _srgb_signal(_shoulder(light))
    return np.rint(255 * np.clip(signal, 0.0, 1.0)).astype(np.uint8)


@cache
def _light(transfer: str) -> NDArray[np.float32]:
    """Lookup table (65536,): light for each 16-bit signal value."""
    signal = np.arange(2**16) / (2**16 - 1)
    return {HLG: _hlg_light, PQ: _pq_light, SDR: _bt709_light}[transfer](signal).astype(np.float32)


def _hlg_scene(signal: Array) -> Array:
    """BT.2100's inverse OETF: signal => scene light, 1 at the peak."""
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - _HLG_C) / _HLG_A) + _HLG_B) / 12)


def _hlg_light(signal: Array) -> Array:
    return _hlg_scene(signal) / _hlg_scene(np.array(_HLG_WHITE))


def _pq_light(signal: Array) -> Array:
    """BT.2100's EOTF gives display light in cd/m2; the inverse of HLG's OOTF gives scene light (BT.2408, 6.3)."""
    power = signal ** (1 / _PQ_M2)
    display = 1e4 * (np.maximum(power - _PQ_C1, 0) / (_PQ_C2 - _PQ_C3 * power)) ** (1 / _PQ_M1)
    return (display / _PQ_WHITE) ** (1 / _SYSTEM_GAMMA)


def _bt709_light(signal: Array) -> Array:
    return np.where(signal < 0.081, signal / 4.5, ((signal + 0.099) / 1.099) ** (1 / 0.45))


def _shoulder(light: Array) -> Array:
    """Keep light up to the knee; compress it below 1 from there to the nominal peak (Reinhard et al. 2002, eq. 4)."""
    peak = ((_NOMINAL_PEAK / _PQ_WHITE) ** (1 / _SYSTEM_GAMMA) - _KNEE) / (1 - _KNEE)
    over = np.clip((light - _KNEE) / (1 - _KNEE), 0, peak)
    return np.where(light <= _KNEE, light, _KNEE + (1 - _KNEE) * over * (1 + over / peak**2) / (1 + over))


def _srgb_signal(light: Array) -> Array:
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)


def _bt709_signal(light: Array) -> Array:
    return np.where(light < 0.018, 4.5 * light, 1.099 * np.maximum(light, 1e-9) ** 0.45 - 0.099)
