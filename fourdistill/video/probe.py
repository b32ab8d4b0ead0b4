"""Probe a film: how its pictures are stored, and the time of every frame that can be shown."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import av
import av.format
import numpy as np
from numpy.typing import NDArray

from fourdistill.video.film_clock import (
    FrameList,
    PacketTime,
    continue_clock,
    count_from_first,
    first_key,
    list_decoded,
    list_frames,
)
from fourdistill.video.film_reader import (
    VideoError,
    decode_carefully,
    decode_film,
    decode_packet,
    has_layers,
    numbered_packets,
    open_decoder,
    open_film,
    refreshes,
)
from fourdistill.video.picture_format import PictureFormat, picture_format
from fourdistill.video.whole_files import check_whole

__all__ = ["VideoError", "VideoInfo", "probe_video", "shown_size"]

DEFAULT_FPS = 25.0  # FFmpeg's default for streams without a frame rate
_WITHOUT_ZERO = frozenset({"mpegts", "mpeg"})  # containers whose clock does not restart at 0 for each film
_SAMPLE = 8  # frames to decode, to find which packets give one


@dataclass(frozen=True)
class VideoInfo:
    """A film as displayed: upright, with square pixels."""

    picture: PictureFormat
    timestamps_s: NDArray[np.float64]
    """(N,) presentation times from the container, strictly ascending: of frames with equal times, only the first."""
    packets: NDArray[np.int64]
    """(N,) packet of each frame."""
    skipped: frozenset[int]
    """Packets that must not be decoded: those before the first frame that can be shown."""
    strict: bool = True
    """Whether every decoder error counts; False if the film begins with a key frame that needs earlier pictures."""
    has_layers: bool = False
    """Whether there are layers that are not decoded: HEVC transparency, or the other eye's view."""
    num_without_picture: int = 0
    """Packets that give no frame, such as those before the first key frame."""
    num_same_time: int = 0
    """Frames left out because they have the same time as another."""
    assumed_fps: float | None = None
    """Frame rate assumed if the file has no times."""

    @property
    def width(self) -> int:
        """In pixels."""
        return self.picture.width

    @property
    def height(self) -> int:
        """In pixels."""
        return self.picture.height

    def notes(self, background: str = "white") -> list[str]:
        """Treatments of the film and omissions from it, one line each."""
        counts = {
            "a second layer (transparency or stereo) is left out": self.has_layers,
            f"{self.num_without_picture} packets give no picture": self.num_without_picture,
            f"{self.num_same_time} frames have the time of another and are left out": self.num_same_time,
            f"no times in the file: {self.assumed_fps} frames a second are assumed": self.assumed_fps,
        }
        return [*self.picture.treatment(background), *(line for line, applies in counts.items() if applies)]


def probe_video(path: Path) -> VideoInfo:
    """Read a film's header and packets, and decode its first frames; raises `VideoError` if it is incomplete."""
    with open_film(path) as (container, stream):
        sample = _Sample(stream)
        packets = list(_read_packets(container, stream, sample))
        check_whole(path, container.format.name, stream)
        sample.finish()
        rate = stream.average_rate or stream.guessed_rate
        if container.format.flags & av.format.Flags.ts_discont.value:
            packets = continue_clock(packets)
        if container.format.name in _WITHOUT_ZERO:
            packets = count_from_first(packets)
        listed = list_frames(packets, sample.decoded, sample.num_fed)
        frames = sample.frames
        if listed is None:
            listed, frames = _decode_all(path, packets, float(rate or DEFAULT_FPS))
        if not frames:
            raise VideoError("expected frames, found none")
        picture = picture_format(stream, frames)
    times, kept = np.unique(listed.times_s, return_index=True)
    return VideoInfo(
        picture,
        times,
        listed.packets[kept],
        listed.skipped,
        next(number for number in count() if number not in listed.skipped) not in sample.open_keys,
        sample.has_layers,
        listed.num_without_picture,
        len(listed.times_s) - len(times),
        listed.assumed_fps,
    )


def shown_size(path: Path) -> tuple[int, int]:
    """(width, height) of a film as displayed, from its first frame; raises `VideoError` without one."""
    with open_film(path) as (container, stream):
        decoder = open_decoder(stream, 1, strict=False)
        for _, frame in decode_carefully(decoder, container, stream, ()):
            picture = picture_format(stream, [frame])
            return picture.width, picture.height
    raise VideoError("expected frames, found none")


def _read_packets(container: Any, stream: Any, sample: "_Sample") -> Iterator[PacketTime]:
    for number, packet in numbered_packets(container, stream):
        sample.feed(number, packet)
        shown, decoded = (None if ticks is None else ticks * packet.time_base for ticks in (packet.pts, packet.dts))
        yield PacketTime(shown, decoded, packet.is_keyframe, packet.is_discard)


def _decode_all(path: Path, packets: list[PacketTime], fps: float) -> tuple[FrameList, list[Any]]:
    """Decode the whole film, if its packets do not show its frames; returns their list and the first frames."""
    decoded, frames = [], []
    for number, frame in decode_film(path, range(first_key(packets)), None, threads=1, strict=False):
        decoded.append(number)
        if len(frames) < _SAMPLE:
            frames.append(frame)
    return list_decoded(packets, decoded, fps), frames


class _Sample:
    """The first frames from the first key frame on, and their packets."""

    def __init__(self, stream: Any) -> None:
        self.frames: list[Any] = []
        self.decoded: list[int] = []
        self.num_fed = 0
        """Number of packets up to the last one that was decoded."""
        self.open_keys: set[int] = set()
        """Key frames that need earlier pictures."""
        self.has_layers = False
        self._stream, self._started = stream, False
        self._decoder = open_decoder(stream, 1, strict=False)  # one thread, because each thread delays frames

    def feed(self, number: int, packet: Any) -> None:
        """Decode one more packet, unless there are enough frames."""
        self._started |= packet.is_keyframe
        if self._started and len(self.frames) < _SAMPLE:
            if packet.is_keyframe and not refreshes(self._stream, packet):
                self.open_keys.add(number)
            self.has_layers |= has_layers(self._stream, packet)
            self.num_fed = number + 1
            self._take(number, packet)

    def finish(self) -> None:
        """Flush the decoder to get the last frames of a short film."""
        if len(self.frames) < _SAMPLE and self._started:
            self._take(-1, None)

    def _take(self, number: int, packet: Any) -> None:
        try:
            found = decode_packet(self._decoder, number, packet)
        except av.FFmpegError:
            return  # normal before the first frame that can be shown; later errors are found when all are decoded
        self.decoded += [number for number, _ in found]
        self.frames += [frame for _, frame in found]
