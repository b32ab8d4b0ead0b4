"""The common clock of a scene's cameras: which frames of each camera to keep, and the instant of each.

In synchronised cameras, frames with the same number belong together. If they do not (late start, dropped frames,
another or a variable frame rate), or if a lower frame rate is wanted, the scene gets a list of instants. Each camera
then contributes to each instant its nearest frame in time, if that is within half an interval. No frame is used twice,
and there is no drift, because instants are times, not counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fourdistill.errors import InputError

MAX_INSTANTS = 10_000_000  # per scene, enough for films of over a day: beyond that, a time must be wrong
ROUNDING_S = 2.1e-3  # Matroska counts in milliseconds: an interval can be up to 1 ms too long or too short

Times = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Kept:
    """Frames of one camera to keep: numbers in the film (N,) and instants in the scene (N,), both ascending."""

    frames: Ints
    instants: Ints


def align(timestamps_s: Sequence[Times], fps: float | None = None) -> list[Kept]:
    """Ascending times (N_c,) of each camera => the frames to keep, with `fps` at most that many per second.

    Raises `InputError` if the time span and the rate give more than `MAX_INSTANTS` instants.
    """
    if fps is None and agree(timestamps_s):
        return [Kept(np.arange(len(times)), np.arange(len(times))) for times in timestamps_s]
    if fps is None:
        instants = _instants_of_slowest(timestamps_s)
    else:
        first = min(times[0] for times in timestamps_s)
        last = max(times[-1] for times in timestamps_s)
        _check_span(first, last, 1 / fps)
        instants = first + np.arange(int((last - first) * fps + 1e-6) + 1) / fps
    return [_nearest(times, instants) for times in timestamps_s]


def agree(timestamps_s: Sequence[Times]) -> bool:
    """Whether frames with the same number are synchronised (within half a frame) in all cameras that have them."""
    num = max(len(times) for times in timestamps_s)
    grid = np.full((len(timestamps_s), num), np.nan)
    for row, times in zip(grid, timestamps_s, strict=True):
        row[: len(times)] = times
    return bool(synchronised(grid)[np.isfinite(grid)].all())


def synchronised(times_s: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Times (C, N), NaN without a frame => whether each is within half a frame interval of its instant's median."""
    seen = np.isfinite(times_s).any(axis=0)
    instants = np.full(times_s.shape[1], np.nan)
    instants[seen] = np.nanmedian(times_s[:, seen], axis=0)
    intervals = np.diff(instants[seen])
    interval = np.median(intervals) if len(intervals) else np.inf
    with np.errstate(invalid="ignore"):
        return np.abs(times_s - instants) <= interval / 2


def count_missing(kept: Sequence[Kept]) -> list[int]:
    """For each camera, the number of instants between its first and last for which it has no frame."""
    return [int(k.instants[-1] - k.instants[0] + 1 - len(k.instants)) if len(k.instants) else 0 for k in kept]


def is_variable_rate(timestamps_s: Times) -> bool:
    """Whether frame intervals differ by more than a tenth of their median, and more than rounding to 1 ms causes."""
    intervals = np.diff(timestamps_s)
    return bool(len(intervals) and np.ptp(intervals) > max(0.1 * np.median(intervals), ROUNDING_S))


def _check_span(first: float, last: float, interval: float) -> None:
    if not (last - first) / interval < MAX_INSTANTS:
        raise InputError(
            f"expected at most {MAX_INSTANTS} instants, found times from {first:g} s to {last:g} s "
            f"at every {interval:g} s; see sync.csv and fps"
        )


def _instants_of_slowest(timestamps_s: Sequence[Times]) -> Times:
    """The slowest camera's times, with gaps filled and both ends extended over the scene at its median interval."""
    intervals = [np.median(np.diff(times)) if len(times) > 1 else 0.0 for times in timestamps_s]
    slowest = timestamps_s[int(np.argmax(intervals))]
    interval = max(intervals)
    if interval <= 0:
        return np.unique(np.concatenate(timestamps_s))
    first, last = min(times[0] for times in timestamps_s), max(times[-1] for times in timestamps_s)
    _check_span(first, last, interval)
    num_before = int((slowest[0] - first) / interval + 0.5)
    num_after = int((last - slowest[-1]) / interval + 0.5)
    within = [
        np.linspace(start, stop, max(1, round((stop - start) / interval)), endpoint=False)
        for start, stop in pairwise(slowest)
    ]
    before = slowest[0] - interval * np.arange(num_before, 0, -1)
    return np.concatenate([before, *within, slowest[-1] + interval * np.arange(num_after + 1)])


def _nearest(times: Times, instants: Times) -> Kept:
    """The frame nearest to each instant, if it is within half of the median interval between instants."""
    interval = np.median(np.diff(instants)) if len(instants) > 1 else np.inf
    right = np.clip(np.searchsorted(times, instants), 0, len(times) - 1)
    left = np.maximum(right - 1, 0)
    frames = np.where(np.abs(times[left] - instants) <= np.abs(times[right] - instants), left, right)
    distance = np.abs(times[frames] - instants)
    close = distance <= interval / 2 * (1 + 1e-9)
    order = np.lexsort((distance, frames))
    first_of_frame = np.zeros(len(instants), bool)  # each frame is used only for its nearest instant
    first_of_frame[order[np.flatnonzero(np.diff(frames[order], prepend=-1))]] = True
    keep = np.flatnonzero(close & first_of_frame)
    return Kept(frames[keep], keep)
