"""One video to a folder of square JPEGs, by ffmpeg: crop, resize, and undo the lens where it is known to distort."""

import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import ffmpeg
import imageio_ffmpeg
import numpy as np

from fourdistill.data.probe import VideoError, VideoInfo
from fourdistill.data.scene import Camera
from fourdistill.errors import InputError
from fourdistill.geometry import camera as camera_geometry
from fourdistill.geometry.distortion import sample_bilinear, undistortion_map
from fourdistill.geometry.poses import Array

FRAME_PATTERN = "%06d.jpg"
MAX_PADDED = 0.02  # of a video that is a letterboxed copy of what was calibrated
SUPERSAMPLING = 2  # an undistorted pixel is the mean of 2x2 samples

# bitexact: no version strings, no CPU-dependent shortcuts, so that the same input gives the same bytes.
_BITEXACT = {"flags": "+bitexact", "fflags": "+bitexact"}
_SCALER = "bicubic+accurate_rnd+full_chroma_int+bitexact"


@dataclass(frozen=True)
class FramePlan:
    """How the frames of one video are cut and written."""

    size: int
    """Width and height of the JPEGs in pixels."""
    jpeg_quality: int
    """ffmpeg's -q:v, 1 (best) to 31."""
    max_frames: int | None
    ffmpeg: str
    """The binary."""
    threads: int
    """Threads of the decoder and the encoder; the bytes do not depend on it."""


def find_ffmpeg(named: str | None) -> str:
    """The ffmpeg binary: the one named, else the one on PATH, else the one that imageio-ffmpeg brings."""
    if named is not None:
        found = shutil.which(named)
        if found is None:
            raise InputError(f"ffmpeg: expected a program, found none at {named!r}")
        return found
    return shutil.which("ffmpeg") or imageio_ffmpeg.get_ffmpeg_exe()


def decode_frames(video: Path, info: VideoInfo, camera: Camera | None, folder: Path, plan: FramePlan) -> Array | None:
    """Write 000000.jpg, 000001.jpg, ... of one video into an existing folder; returns K (3, 3) of the JPEGs.

    The frames are cropped to their central square, then resized. Raises `VideoError` where ffmpeg does not deliver
    every frame that the container lists, or where the video is no copy of what was calibrated.
    """
    side = min(info.width, info.height) // 2 * 2  # chroma comes in pairs of rows and columns
    left, top = (info.width - side) // 4 * 2, (info.height - side) // 4 * 2
    K_video = None if camera is None else _video_intrinsics(camera, (info.width, info.height))
    K = None if K_video is None else camera_geometry.crop(K_video, left, top)
    K = None if K is None else camera_geometry.resize(K, (side, side), (plan.size, plan.size))

    if camera is not None and camera.distortion is not None:
        assert K is not None and K_video is not None
        _decode_undistorted(video, info, camera.distortion, K_video, K, folder, plan)
    else:
        upright = _input(video, info, plan).filter("crop", side, side, left, top)
        _run(_jpegs(_scale(upright, plan.size, plan.size), plan), plan, folder)

    wanted = len(info.timestamps_s) if plan.max_frames is None else min(plan.max_frames, len(info.timestamps_s))
    written = sum(1 for _ in folder.glob("*.jpg"))
    if written != wanted:
        raise VideoError(f"expected {wanted} frames as the container lists, decoded {written}")
    return K


def _video_intrinsics(camera: Camera, size: tuple[int, int]) -> Array:
    """K of the video as it is, which may be a letterboxed copy of what was calibrated."""
    K, padded = camera_geometry.letterbox(camera.K, camera.size, size)
    if padded > MAX_PADDED:
        raise VideoError(
            f"expected the calibrated shape {camera.size[0]}x{camera.size[1]}, found {size[0]}x{size[1]}: "
            "neither the same size nor a resized copy"
        )
    return K


def _input(video: Path, info: VideoInfo, plan: FramePlan) -> Any:
    """The film of a video file, upright and with square pixels."""
    # `file:` keeps a name such as "concat:x" a name; the whitelist keeps a playlist from reaching elsewhere.
    # explode: without it, whether a rotten last frame is noticed depends on the timing of the decoder's threads.
    source = ffmpeg.input(
        f"file:{video.resolve()}", threads=plan.threads, protocol_whitelist="file", err_detect="explode"
    )
    film = source[str(info.stream_index)]
    return film if info.square_pixels else film.filter("scale", info.width, info.height).filter("setsar", 1)


def _scale(film: Any, width: int, height: int) -> Any:
    # JPEG is BT.601 full range by definition, whatever the video was.
    return film.filter("scale", width, height, flags=_SCALER, out_color_matrix="bt601", out_range="pc")


def _jpegs(film: Any, plan: FramePlan) -> Any:
    """JPEGs with full chroma: at 128 pixels, half of it is half of the colour detail."""
    limit = {} if plan.max_frames is None else {"frames:v": plan.max_frames}
    quality = {"q:v": plan.jpeg_quality, "qmin": 1}
    layout = {"format": "image2", "vcodec": "mjpeg", "pix_fmt": "yuvj444p", "start_number": 0}
    return film.output(
        FRAME_PATTERN, fps_mode="passthrough", threads=plan.threads, **layout, **quality, **limit, **_BITEXACT
    )


def _command(output: Any, plan: FramePlan) -> list[str]:
    # xerror: a frame that only decodes with errors is a fault, not something to paper over.
    strict = output.global_args("-hide_banner", "-loglevel", "error", "-nostdin", "-xerror")
    return [str(argument) for argument in ffmpeg.compile(strict, cmd=plan.ffmpeg)]


def _run(output: Any, plan: FramePlan, folder: Path) -> None:
    # In the folder itself: its name may hold a %, which a pattern would misread.
    done = subprocess.run(_command(output, plan), cwd=folder, capture_output=True, check=False)
    if done.returncode != 0:
        raise VideoError(f"ffmpeg: {_last_line(done.stderr)}")


def _decode_undistorted(
    video: Path, info: VideoInfo, distortion: tuple[float, ...], K_video: Array, K: Array, folder: Path, plan: FramePlan
) -> None:
    """As `decode_frames`, through NumPy between two ffmpeg processes, for a lens that distorts.

    ffmpeg's own filters either know another lens model (`lenscorrection`) or take the nearest pixel (`remap`). The
    frames come scaled to about twice the wanted size, where the map is bilinear and a 2x2 mean follows.
    """
    fine = plan.size * SUPERSAMPLING
    shrink = min(1.0, fine / min(info.width, info.height))
    width, height = (max(2, round(length * shrink)) for length in (info.width, info.height))
    K_scaled = camera_geometry.resize(K_video, (info.width, info.height), (width, height))
    K_fine = camera_geometry.resize(K, (plan.size, plan.size), (fine, fine))
    lookup = undistortion_map(K_fine, (fine, fine), K_scaled, distortion)  # (fine, fine, 2)

    limit = {} if plan.max_frames is None else {"frames:v": plan.max_frames}
    raw = _input(video, info, plan).filter("scale", width, height, flags=_SCALER)
    raw = raw.output("pipe:", format="rawvideo", pix_fmt="rgb24", fps_mode="passthrough", **limit, **_BITEXACT)
    square = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{plan.size}x{plan.size}", framerate=1)
    jpegs = _jpegs(_scale(square, plan.size, plan.size), plan)

    encoder_command = [argument for argument in _command(jpegs, plan) if argument != "-nostdin"]
    with tempfile.TemporaryFile() as decoder_log, tempfile.TemporaryFile() as encoder_log:
        decoder = subprocess.Popen(_command(raw, plan), stdout=subprocess.PIPE, stderr=decoder_log)
        encoder = subprocess.Popen(encoder_command, stdin=subprocess.PIPE, stderr=encoder_log, cwd=folder)
        assert decoder.stdout is not None and encoder.stdin is not None
        # A broken pipe means that the encoder has failed: its own status and last line say why, below.
        try:
            with suppress(BrokenPipeError):
                _undistort_stream(decoder.stdout, encoder.stdin, (width, height), lookup)
        finally:
            with suppress(BrokenPipeError):
                encoder.stdin.close()
            decoder.stdout.close()
            encoder.wait()
            decoder.wait()
        for process, log in ((encoder, encoder_log), (decoder, decoder_log)):
            if process.returncode != 0:
                log.seek(0)
                raise VideoError(f"ffmpeg: {_last_line(log.read())}")


def _undistort_stream(frames: IO[bytes], squares: IO[bytes], size: tuple[int, int], lookup: Array) -> None:
    """Raw RGB frames of `size` in, raw RGB squares out, half as wide as the lookup."""
    num_bytes = size[0] * size[1] * 3
    half = lookup.shape[0] // SUPERSAMPLING
    while data := frames.read(num_bytes):
        if len(data) != num_bytes:
            raise VideoError("ffmpeg: expected whole frames, the last one is cut off")
        frame = np.frombuffer(data, np.uint8).reshape(size[1], size[0], 3)
        fine = sample_bilinear(frame, lookup).reshape(half, SUPERSAMPLING, half, SUPERSAMPLING, 3)
        squares.write(np.rint(fine.mean(axis=(1, 3))).astype(np.uint8).tobytes())


def _last_line(log: bytes) -> str:
    lines = log.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "failed without a message"
