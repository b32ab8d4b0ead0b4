"""How a film stores its pictures, read from its first frames, and how they are treated for correct display.

Values come from FFmpeg's decoded frames: the decoder falls back to the container where the codec has no value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av.sidedata.sidedata
import numpy as np

from fourdistill.video.sdr import HLG, PQ, SDR

_TRANSFERS = {16: PQ, 18: HLG}  # ITU-T H.273, transfer characteristics
_BT2020 = 9  # ITU-T H.273, colour primaries
_FIELD_ORDERS = {2: "tff", 3: "bff", 4: "bff", 5: "tff"}  # AVFieldOrder => the field that is shown first
# Decoders that flag each interlaced frame. For these, the container's flag is ignored: it is often wrong.
_FLAG_FRAMES = frozenset({"dvvideo", "h264", "hevc", "mpeg2video", "mpeg4", "prores", "vc1", "wmv3"})
_MAX_SLANT = 0.02  # tolerance for a display matrix: the sine of about one degree


@dataclass(frozen=True)
class PictureFormat:
    """Format of a film's pictures, upright and with square pixels unless stated otherwise."""

    width: int
    height: int
    stored: tuple[int, int]
    """(width, height) in the codec."""
    pixel_aspect: Fraction = Fraction(1)
    """Width of a stored pixel divided by its height."""
    turns: tuple[tuple[str, str], ...] = ()
    """FFmpeg filters, with their arguments, that turn a picture upright."""
    slanted: bool = False
    """Whether the display matrix is not a multiple of a quarter turn; the nearest multiple is applied."""
    interlaced: bool = False
    field_order: str | None = None
    """tff or bff if only the container says that there are fields; None: use each frame's own flags."""
    has_alpha: bool = False
    transfer: str = SDR
    """HLG, PQ or SDR."""
    wide_gamut: bool = False
    """Whether the primaries are BT.2020's."""

    def treatment(self, background: str) -> list[str]:
        """The treatments of the pictures besides cropping and resizing, one line each."""
        aspect = f"{self.pixel_aspect.numerator}:{self.pixel_aspect.denominator}"
        size = f"{self.width}x{self.height}"
        colour = f"HDR ({self.transfer})" if self.transfer != SDR else "wide colour (BT.2020)" * self.wide_gamut
        lines = {
            f"{self._turn()} by its display matrix": self.turns,
            f"pixels of {aspect} are made square: {size}": self.pixel_aspect != 1,
            "its display matrix is slanted: the nearest quarter turn is taken": self.slanted,
            "interlaced: fields become one picture per frame": self.interlaced,
            f"transparent: laid on {background}": self.has_alpha,
            f"{colour} is brought to SDR": colour,
        }
        return [line for line, applies in lines.items() if applies]

    def _turn(self) -> str:
        """The combined effect of `turns`, in words."""
        num_flips = sum(name != "transpose" for name, _ in self.turns)
        if num_flips == len(self.turns):
            return "mirrored" if num_flips == 1 else "turned by 180 degrees"
        return "turned by 90 degrees" if num_flips == 1 else "turned by 90 degrees and mirrored"


def picture_format(stream: Any, frames: Sequence[Any]) -> PictureFormat:
    """The format of a PyAV stream's pictures, given its first frames, at least one."""
    first = frames[0]
    aspect = stream.sample_aspect_ratio or Fraction(1)
    # The width that makes pixels square; it is even because chroma is stored for pairs of columns.
    width, height = first.width if aspect == 1 else 2 * round(first.width * aspect / 2), first.height
    turns, slanted = _turns(first)
    if any(name == "transpose" for name, _ in turns):
        width, height = height, width
    flagged = any(frame.interlaced_frame for frame in frames)
    trusted = stream.codec_context.name.removeprefix("lib") in _FLAG_FRAMES
    order = None if flagged or trusted else _FIELD_ORDERS.get(stream.codec_context.field_order)
    return PictureFormat(
        width,
        height,
        stored=(first.width, first.height),
        pixel_aspect=Fraction(aspect),
        turns=turns,
        slanted=slanted,
        interlaced=flagged or order is not None,
        field_order=order,
        has_alpha=any(shows_through(frame) for frame in frames),
        transfer=_TRANSFERS.get(first.color_trc, SDR),
        wide_gamut=first.color_primaries == _BT2020,
    )


def may_show_through(frame: Any) -> bool:
    """Whether a frame's pixel format can store transparency."""
    return frame.format.has_palette or any(component.is_alpha for component in frame.format.components)


def shows_through(frame: Any) -> bool:
    """Whether a frame has transparency: an alpha channel, or a palette with transparent colours."""
    if not frame.format.has_palette:
        return may_show_through(frame)
    return bool((frame.to_ndarray(format="rgba")[..., 3] < np.iinfo(np.uint8).max).any())


def _turns(frame: Any) -> tuple[tuple[tuple[str, str], ...], bool]:
    """FFmpeg filters for a display matrix, which may also mirror, and whether it is slanted.

    Its rows are the steps in the displayed picture for one step right and one step down in the stored picture.
    """
    data = frame.side_data.get(av.sidedata.sidedata.Type.DISPLAYMATRIX)
    if data is None:
        return (), False
    right, down = np.frombuffer(bytes(data), np.int32).reshape(3, 3)[:2, :2].astype(np.float64)
    transposed = abs(right[1]) > abs(right[0])
    across, along = (down[0], right[1]) if transposed else (right[0], down[1])
    rest = (right[0], down[1]) if transposed else (right[1], down[0])
    turns = [("transpose", "cclock_flip")] if transposed else []  # rows become columns
    turns += [("hflip", "")] if across < 0 else []
    turns += [("vflip", "")] if along < 0 else []
    return tuple(turns), bool(np.abs(rest).max() > _MAX_SLANT * max(abs(across), abs(along)))
