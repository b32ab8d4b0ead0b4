"""What a video container says about itself, read with PyAV: size, orientation and the time of every frame."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.container
import av.stream
import numpy as np
from numpy.typing import NDArray

_SAMPLE_TABLE = "mov,mp4"  # containers that list every frame in their header: a shortfall means a truncated file
_HEADER_DURATION = "matroska"  # containers whose header duration is written when the file is finished
_MATROSKA_SLACK_S = 1.0  # a last frame of unknown duration, audio that ends elsewhere
_SIDEWAYS = 90  # degrees


class VideoError(Exception):
    """One video cannot be used; `str(error)` says why in one line. Others of the run may be fine."""


@dataclass(frozen=True)
class VideoInfo:
    """A video as it is meant to be seen: rotated upright, with square pixels."""

    stream_index: int
    width: int
    height: int
    stored: tuple[int, int]
    """(width, height) of the frames as the codec has them, but upright."""
    square_pixels: bool
    """False where ffmpeg has to stretch the frames to (width, height) first."""
    timestamps_s: NDArray[np.float64]
    """(N,) presentation times from the container, ascending."""


def probe_video(path: Path) -> VideoInfo:
    """Read a video's header and packets, decoding one frame; raises `VideoError` where it is not whole."""
    try:
        with av.open(str(path)) as container:
            stream = _film(container)
            stream.codec_context.thread_count = 1  # threads would hold the one frame back
            index, aspect = stream.index, stream.sample_aspect_ratio or Fraction(1)
            timestamps, frame = _read_packets(container, stream)
    except (av.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)  # FFmpeg's own words, without its number and the path
        raise VideoError(f"not a readable video: {' '.join(reason.split())}") from error
    # Anamorphic video: the width that makes pixels square, even because chroma comes in pairs of columns.
    width, height = frame.width if aspect == 1 else 2 * round(frame.width * aspect / 2), frame.height
    stored = (frame.width, frame.height)
    if round(frame.rotation) % 180 == _SIDEWAYS:
        width, height = height, width
        stored = (frame.height, frame.width)
    return VideoInfo(index, width, height, stored, aspect == 1, timestamps)


def _film(container: "av.container.InputContainer") -> "av.VideoStream":
    """The first video stream that is not a cover picture."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            if stream.codec_context is None:  # PyAV's types say that there always is one
                raise VideoError("expected a codec that is known, found another")
            return stream
    raise VideoError("expected a video stream, found none")


def _read_packets(
    container: "av.container.InputContainer", stream: "av.VideoStream"
) -> tuple[NDArray[np.float64], av.VideoFrame]:
    """Presentation times (N,) of the frames that a player shows, and the first frame, whose side data is wanted."""
    times: list[Fraction] = []
    first: av.VideoFrame | None = None
    num_packets, last_s = 0, Fraction(0)
    for packet in container.demux():
        if packet.stream_index == stream.index and first is None:
            first = next(iter(stream.decode(packet)), None)
        if packet.size == 0 or packet.time_base is None:
            continue  # the flush at the end
        ticks = packet.dts if packet.pts is None else packet.pts
        last_s = max(last_s, (ticks or 0) * packet.time_base)
        if packet.stream_index != stream.index:
            continue
        num_packets += 1
        if packet.is_discard:
            continue  # an edit list cuts this frame away
        if packet.pts is None:
            raise VideoError("expected a presentation time for every frame, found packets without")
        times.append(packet.pts * packet.time_base)
    _check_whole(container, stream, num_packets, last_s)
    if not times or first is None:
        raise VideoError("expected frames, found none")
    return np.array(sorted(times), np.float64), first


def _check_whole(
    container: "av.container.InputContainer", stream: "av.VideoStream", num_packets: int, last_s: Fraction
) -> None:
    """Raise where the header promises more than is there. Only some headers are to be believed (AVI's is not)."""
    if _SAMPLE_TABLE in container.format.name and num_packets < stream.frames:
        raise VideoError(f"truncated: expected {stream.frames} frames by its header, found {num_packets}")
    if _HEADER_DURATION in container.format.name and container.duration:
        promised_s = Fraction(container.duration, av.time_base)
        if last_s + _MATROSKA_SLACK_S < promised_s:
            raise VideoError(f"truncated: expected {float(promised_s):.2f} s by its header, found {float(last_s):.2f}")
