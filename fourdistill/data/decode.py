"""One video file to a folder of square JPEGs, by ffmpeg."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ffmpeg
import numpy as np

from fourdistill.data.jpegs import BITEXACT, SCALER, FramePlan, check_exit, command, jpegs, scale, write_jpegs
from fourdistill.data.probe import VideoError, VideoInfo
from fourdistill.data.scene import Camera
from fourdistill.data.square import Image, Size, central_square, undistorter
from fourdistill.data.timeline import Ints


def decode_frames(
    video: Path, info: VideoInfo, camera: Camera | None, folder: Path, plan: FramePlan, frames: Ints
) -> None:
    """Write 000000.jpg, 000001.jpg, ... of the `frames` (N,), rising, of one video into an existing folder.

    The frames are cropped to their central square, then resized, and a lens that distorts is undone. Raises
    `VideoError` where ffmpeg does not deliver every frame that the container lists, or where the video is no copy of
    what was calibrated.
    """
    left, top, side = central_square((info.width, info.height))
    if camera is not None and camera.distortion is not None:
        # ffmpeg's own filters either know another lens model (`lenscorrection`) or take the nearest pixel (`remap`).
        scaled, undistort = undistorter(camera, (info.width, info.height), plan.size)
        film = open_film(video, info, plan).filter("scale", *scaled, flags=SCALER)
        with raw_frames(film, scaled, frames, plan) as images:
            write_jpegs((undistort(image) for image in images), folder, plan)
    elif np.array_equal(frames, np.arange(len(frames))):
        square = open_film(video, info, plan).filter("crop", side, side, left, top)
        all_of_them = len(frames) == len(info.timestamps_s)
        _run(jpegs(scale(square, plan.size, plan.size), plan, None if all_of_them else len(frames)), plan, folder)
    else:
        square = open_film(video, info, plan).filter("crop", side, side, left, top)
        square = square.filter("scale", plan.size, plan.size, flags=SCALER)
        with raw_frames(square, (plan.size, plan.size), frames, plan) as images:
            write_jpegs(images, folder, plan)

    written = sum(1 for _ in folder.glob("*.jpg"))
    if written != len(frames):
        raise VideoError(f"expected {len(frames)} frames as the container lists, decoded {written}")


def open_film(video: Path, info: VideoInfo, plan: FramePlan) -> Any:
    """The film of a video file as an ffmpeg-python stream, upright and with square pixels.

    Where the size of its frames changes on the way ffmpeg fails, instead of cutting some of them elsewhere.
    """
    # `file:` keeps a name such as "concat:x" a name; the whitelist keeps a playlist from reaching elsewhere.
    # explode: without it, whether a rotten last frame is noticed depends on the timing of the decoder's threads.
    source = ffmpeg.input(
        f"file:{video.resolve()}", threads=plan.threads, protocol_whitelist="file", err_detect="explode"
    )
    width, height = info.stored
    # A crop to nothing is refused; to the whole frame, it costs nothing.
    constant = f"if(eq(iw,{width})*eq(ih,{height}),{width},0)"
    film = source[str(info.stream_index)].filter("crop@frames_of_one_size", constant, height, 0, 0, exact=1)
    return film if info.square_pixels else film.filter("scale", info.width, info.height).filter("setsar", 1)


@contextmanager
def raw_frames(film: Any, size: Size, frames: Ints, plan: FramePlan) -> Iterator[Iterator[Image]]:
    """Give the `frames` (N,), rising, of a stream of images of `size`, one RGB array (H, W, 3) at a time."""
    num_frames = int(frames[-1]) + 1
    raw = film.output(
        "pipe:", format="rawvideo", pix_fmt="rgb24", fps_mode="passthrough", **{"frames:v": num_frames}, **BITEXACT
    ).global_args("-nostdin")
    with tempfile.TemporaryFile() as log:
        decoder = subprocess.Popen(command(raw, plan), stdout=subprocess.PIPE, stderr=log)
        assert decoder.stdout is not None
        try:
            yield _wanted(decoder.stdout, size, set(frames.tolist()))
        finally:
            decoder.stdout.close()
            decoder.wait()
        check_exit(decoder.returncode, log)


def _wanted(stdout: Any, size: Size, frames: set[int]) -> Iterator[Image]:
    num_bytes, number = size[0] * size[1] * 3, 0
    while data := stdout.read(num_bytes):
        if len(data) != num_bytes:
            raise VideoError("ffmpeg: expected whole frames, the last one is cut off")
        if number in frames:
            yield np.frombuffer(data, np.uint8).reshape(size[1], size[0], 3)
        number += 1


def _run(output: Any, plan: FramePlan, folder: Path) -> None:
    with tempfile.TemporaryFile() as log:
        # In the folder itself: its name may hold a %, which a pattern would misread.
        done = subprocess.run(command(output.global_args("-nostdin"), plan), cwd=folder, stderr=log, check=False)
        check_exit(done.returncode, log)
