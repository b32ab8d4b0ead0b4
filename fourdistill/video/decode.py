"""Decode one video file to images, or to a folder of square JPEGs."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from fourdistill.scene import Video
from fourdistill.video.film_filters import RGB, YUV, Cut, cut_frames, is_sdr
from fourdistill.video.film_reader import VideoError, decode_film
from fourdistill.video.jpegs import FramePlan, write_jpegs
from fourdistill.video.probe import VideoInfo
from fourdistill.video.square import Image, central_square, undistorter
from fourdistill.video.timeline import Ints


def decode_frames(
    film: Video, info: VideoInfo, folder: Path, plan: FramePlan, frames: Ints
) -> tuple[Ints, tuple[str, ...]]:
    """Write the `frames` (N,), ascending, of one film as 000000.jpg, 000001.jpg, ... into an existing folder.

    The frames are cropped to their central square, resized, and undistorted if the lens distorts. Returns the numbers
    of the frames written (a packet may give none), and one line for each treatment that `info` does not list. Raises
    `VideoError` if pictures are corrupt, if there are none, or if the video is no copy of the calibrated one.
    """
    left, top, side = central_square((info.width, info.height))
    camera = film.camera or (film.track[0][1] if film.track else None)
    undistort = None
    if camera is not None and camera.distortion is not None:
        scaled, undistort = undistorter(camera, (info.width, info.height), plan.size)
        cut = Cut((0, 0, info.width, info.height), scaled)
    else:
        layout = YUV if is_sdr(info.picture) and not info.picture.has_alpha else RGB  # YUV saves a conversion
        cut = Cut((left, top, side, side), (plan.size, plan.size), layout)
    written: list[int] = []
    notes: list[str] = []

    def squares() -> Iterator[Image]:
        for frame, image in read_frames(film, info, frames, cut, plan.threads, notes):
            written.append(frame)
            yield undistort(image) if undistort else image

    images = squares()
    if (first := next(images, None)) is None:
        raise VideoError(f"expected {len(frames)} frames as the container lists, decoded none")
    write_jpegs(chain([first], images), folder, plan, cut.layout)
    return np.array(written), tuple(notes)


def read_frames(
    film: Video, info: VideoInfo, frames: Ints, cut: Cut, threads: int, notes: list[str] | None = None
) -> Iterator[tuple[int, Image]]:
    """Yield (number, image) for each of the `frames` (N,), ascending, of a film that can be decoded.

    Adds one line to `notes` for each treatment that `info` does not list.
    """
    # Deinterlacing a frame needs the frames before and after it, and interlacing may start late in a film.
    around = np.unique(np.concatenate([frames - 1, frames, frames + 1]))
    if not info.picture.interlaced:
        around = around[around <= frames.max(initial=-1)]  # do not decode past the last frame unless needed
    number_of = {int(info.packets[frame]): frame for frame in around.tolist() if 0 <= frame < len(info.packets)}
    decoded = decode_film(film.path, info.skipped, number_of.keys(), threads, info.strict)
    wanted = frozenset(frames.tolist())
    needed = _leave_out_neighbours(decoded, info.packets[frames], info.picture.interlaced, notes)
    last = -1
    for packet, image in cut_frames(needed, info.picture, cut, film.background):
        number = number_of[packet]
        if number <= last:
            raise VideoError(f"expected frames in the order of their times, found {number} after {last}")
        last = number
        if number in wanted:
            yield number, image


def _leave_out_neighbours(
    decoded: Iterator[tuple[int, Any]], wanted: Ints, interlaced: bool, notes: list[str] | None
) -> Iterator[tuple[int, Any]]:
    """Yield the `wanted` frames, and every frame from the first interlaced one on."""
    numbers = frozenset(wanted.tolist())
    for number, frame in decoded:
        if frame.interlaced_frame and not interlaced:
            interlaced = True
            if notes is not None:
                notes.append("interlaced in part: fields become one picture per frame")
        if interlaced or number in numbers:
            yield number, frame
