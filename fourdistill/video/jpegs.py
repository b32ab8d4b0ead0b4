"""Write square frames to a folder of JPEGs with ffmpeg, the only encoder for frames from all sources."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ffmpeg
import imageio_ffmpeg

from fourdistill.errors import InputError
from fourdistill.video.film_filters import SCALER
from fourdistill.video.film_reader import VideoError
from fourdistill.video.square import Image

FRAME_PATTERN = "%06d.jpg"

# bitexact: no version strings and no CPU-dependent optimisations, so that the same input gives the same bytes.
_BITEXACT = {"flags": "+bitexact", "fflags": "+bitexact"}


@dataclass(frozen=True)
class FramePlan:
    """How the frames of one film are cropped and written."""

    size: int
    """Width and height of the JPEGs in pixels."""
    jpeg_quality: int
    """ffmpeg's -q:v, 1 (best) to 31."""
    ffmpeg: str
    """Path of the ffmpeg binary."""
    threads: int
    """Threads of the decoder and the encoder; the output does not depend on it."""


def find_ffmpeg(named: str | None) -> str:
    """The ffmpeg binary: the given one, else the one on PATH, else the one that comes with imageio-ffmpeg."""
    if named is not None:
        found = shutil.which(named)
        if found is None:
            raise InputError(f"ffmpeg: expected a program, found none at {named!r}")
        return found
    return shutil.which("ffmpeg") or imageio_ffmpeg.get_ffmpeg_exe()


def _scale(film: Any, size: int) -> Any:
    """Scale an ffmpeg-python RGB stream and convert it to JPEG's colours, BT.601 full range."""
    return film.filter("scale", size, size, flags=SCALER, out_color_matrix="bt601", out_range="pc")


def _jpegs(film: Any, plan: FramePlan) -> Any:
    """Encode a stream as JPEGs with full chroma: at 128 pixels, subsampling would lose half of the colour detail."""
    quality = {"q:v": plan.jpeg_quality, "qmin": 1}
    layout = {"format": "image2", "vcodec": "mjpeg", "pix_fmt": "yuvj444p", "start_number": 0}
    return film.output(FRAME_PATTERN, fps_mode="passthrough", threads=plan.threads, **layout, **quality, **_BITEXACT)


def _command(output: Any, plan: FramePlan) -> list[str]:
    """The command line of an ffmpeg-python output; ffmpeg fails at the first error."""
    strict = output.global_args("-hide_banner", "-loglevel", "error", "-xerror")
    return [str(argument) for argument in ffmpeg.compile(strict, cmd=plan.ffmpeg)]


def write_jpegs(squares: Iterable[Image], folder: Path, plan: FramePlan, layout: str = "rgb24") -> None:
    """Write images of `size` as 000000.jpg, 000001.jpg, ...; raises `VideoError` if ffmpeg fails.

    Images are RGB (size, size, 3), or have the ffmpeg pixel format `layout`, which must be one that JPEGs store, in
    ffmpeg's memory layout. They have no times: file names are consecutive numbers.
    """
    raw = ffmpeg.input("pipe:", format="rawvideo", pix_fmt=layout, s=f"{plan.size}x{plan.size}", framerate=1)
    film = _scale(raw, plan.size) if layout == "rgb24" else raw
    with tempfile.TemporaryFile() as log:
        # Run in the folder, because its name may contain a %, which ffmpeg would read as part of the pattern.
        encoder = subprocess.Popen(
            _command(_jpegs(film, plan), plan),
            stdin=subprocess.PIPE, stderr=log, cwd=folder,
        )  # fmt: skip
        assert encoder.stdin is not None
        # A broken pipe means that the encoder has failed; _check_exit reports the cause from its exit code and log.
        try:
            with suppress(BrokenPipeError):
                for square in squares:
                    encoder.stdin.write(square.tobytes())
        finally:
            with suppress(BrokenPipeError):
                encoder.stdin.close()
            encoder.wait()
        _check_exit(encoder.returncode, log)


def _check_exit(returncode: int, log: Any) -> None:
    """Raise `VideoError` if ffmpeg failed, with the first line of its log (the cause) without memory addresses."""
    if returncode != 0:
        log.seek(0)
        lines = log.read().decode(errors="replace").strip().splitlines()
        cause = re.sub(r" @ 0x[0-9a-f]+", "", lines[0]) if lines else "failed without a message"
        raise VideoError(f"ffmpeg: {cause}")
