"""Animations with exact durations: GIF delays are hundredths of a second, MP4 rates are fractions."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from fourdistill.errors import InputError

MAX_GIF_RATE = 50  # frames a second: browsers stretch delays below 2/100 s to 10/100 s
MIN_RATE, MAX_RATE = 0.1, 100  # of any animation


def check_rate(frame_rate: float, suffix: str) -> None:
    """Raise `InputError` if a file with this suffix (`.gif`, `.mp4` ...) cannot have this frame rate."""
    if not MIN_RATE <= frame_rate <= MAX_RATE:  # also false for NaN
        raise InputError(f"fps: expected {MIN_RATE} to {MAX_RATE} frames a second, found {frame_rate:g}")
    if suffix.lower() == ".gif" and frame_rate > MAX_GIF_RATE:
        raise InputError(
            f"fps: expected at most {MAX_GIF_RATE} frames a second for a GIF, which browsers slow down beyond that, "
            f"found {frame_rate:g}; an MP4 takes up to {MAX_RATE}"
        )


def exact_rate(frame_rate: float) -> Fraction:
    """Frames a second as the intended fraction: 29.97003 is 30000/1001."""
    return Fraction(frame_rate).limit_denominator(1001)


def gif_delays_ms(num_frames: int, frame_rate: float) -> list[int]:
    """The delay of each frame in ms, in whole hundredths of a second; rounding errors do not accumulate.

    Raises `InputError` for a rate that a GIF cannot have.
    """
    check_rate(frame_rate, ".gif")
    ends = [round(100 * frame / exact_rate(frame_rate)) for frame in range(num_frames + 1)]
    return [10 * (end - start) for start, end in pairwise(ends)]


def save_gif(file: Path | BinaryIO, images: Sequence[Image.Image], frame_rate: float) -> None:
    """Write images of one size as a looping animation."""
    delays = gif_delays_ms(len(images), frame_rate)
    images[0].save(file, format="GIF", save_all=True, append_images=images[1:], duration=delays, loop=0)
