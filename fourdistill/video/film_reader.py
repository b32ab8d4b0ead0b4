"""The packets and decoded frames of a film, with PyAV; every frame has the number of its packet.

Packets are numbered in file order. Empty packets, which mean an unchanged picture in AVI, get no number.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import av
import av.container
import av.stream

ENDS_ANYWHERE = frozenset({"mpegts", "mpeg", "mpegvideo", "h264", "hevc", "m4v", "vc1"})
"""Containers that can be cut at any byte: a file cut off in mid-picture has lost only that picture."""

_IDR = 5  # H.264 NAL unit type: a slice of a picture that resets the decoder


class VideoError(Exception):
    """One video cannot be used; `str(error)` gives the reason in one line. Other videos of the run may be fine."""


@contextmanager
def open_film(path: Path) -> Iterator[tuple["av.container.InputContainer", "av.VideoStream"]]:
    """Yield the container and its first video stream that is not a cover picture.

    Raises `VideoError`, also for FFmpeg errors inside the block.
    """
    try:
        # `file:` stops FFmpeg from interpreting names such as "concat:x"; the whitelist limits playlists to files.
        # Tags that are not UTF-8 do not make a film unreadable.
        options = {"protocol_whitelist": "file"}
        container = av.open(f"file:{path.absolute()}", options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        raise _unreadable(error) from error
    with container:
        try:
            yield container, _film(container)
        except av.FFmpegError as error:  # not ValueError: one from inside the block may have another cause
            raise _unreadable(error) from error


def _unreadable(error: Exception) -> VideoError:
    reason = getattr(error, "strerror", None) or str(error)  # FFmpeg's message without error number and path
    return VideoError(f"not a readable video: {' '.join(reason.split())}")


def _film(container: "av.container.InputContainer") -> "av.VideoStream":
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            if stream.codec_context is None:  # possible, although PyAV's types exclude it
                raise VideoError("expected a codec that is known, found another")
            return stream
    raise VideoError("expected a video stream, found none")


def numbered_packets(
    container: "av.container.InputContainer", stream: "av.VideoStream"
) -> Iterator[tuple[int, "av.Packet[Any]"]]:
    """The packets of one stream with their numbers."""
    number = 0
    for packet in container.demux(stream):
        if packet.size:
            yield number, packet
            number += 1


def open_decoder(stream: "av.VideoStream", threads: int, strict: bool) -> Any:
    """A decoder that records for every frame the packet it came from; 0 threads: one per core.

    A `strict` decoder reports a partly decoded picture as an error; others conceal the missing part. It also reports
    complete pictures that refer to pictures cut away from the film's beginning.
    """
    name = alpha_decoder(stream)
    context: Any = av.CodecContext.create(name, "r") if name else stream.codec_context
    context.thread_type, context.thread_count = "AUTO", threads
    context.copy_opaque = True
    context.options = {"err_detect": "explode"} if strict else {}
    return context


def alpha_decoder(stream: "av.VideoStream") -> str | None:
    """The decoder that keeps a WebM's transparency, None if not needed or missing; FFmpeg's native ones drop it."""
    if stream.metadata.get("alpha_mode") != "1":
        return None
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.name)
    return name if name in av.codecs_available else None


def decode_film(
    path: Path, skipped: Collection[int], wanted: Collection[int] | None, threads: int, strict: bool
) -> Iterator[tuple[int, "av.VideoFrame"]]:
    """Decode a film without the `skipped` packets; yields (packet number, frame) in display order.

    Yields the frames of the `wanted` packets (None: all) as far as they exist, and stops after the last. Raises
    `VideoError` if a picture is corrupt, except the last one in the containers `ENDS_ANYWHERE`, which is left out.
    """
    given: set[int] = set()
    # Several threads report an error with the wrong packet, or not at all at the end of the film. Their result is used
    # only if it is complete. Otherwise one thread finds which packets are corrupt and which just have no picture.
    for decode in (_decode, decode_carefully) if wanted is not None and threads != 1 else (decode_carefully,):
        with open_film(path) as (container, stream):
            decoder = open_decoder(stream, threads if decode is _decode else 1, strict)
            for number, frame in decode(decoder, container, stream, skipped):
                if number not in given and (wanted is None or number in wanted):
                    given.add(number)
                    yield number, frame
                    if wanted is not None and len(given) == len(wanted):
                        return


def _decode(
    decoder: Any, container: "av.container.InputContainer", stream: "av.VideoStream", skipped: Collection[int]
) -> Iterator[tuple[int, "av.VideoFrame"]]:
    """Yield all frames up to the first error."""
    with suppress(av.FFmpegError):
        for number, packet in numbered_packets(container, stream):
            if number not in skipped:
                yield from decode_packet(decoder, number, packet)
        yield from decode_packet(decoder, -1, None)


def decode_carefully(
    decoder: Any, container: "av.container.InputContainer", stream: "av.VideoStream", skipped: Collection[int]
) -> Iterator[tuple[int, "av.VideoFrame"]]:
    """Yield all frames; raises `VideoError` for corrupt ones. The decoder must have one thread, to locate errors.

    Errors before the first frame are ignored: those packets need pictures that were cut away. Before an error is
    raised, the frames that the decoder still holds are yielded.
    """
    first, last = None, -1
    faults: dict[int, str] = {}
    lost: set[int] = set()
    for number, packet in numbered_packets(container, stream):
        if _find_fault(faults, first, last):
            break
        if number in skipped:
            continue
        last = number
        try:
            found = decode_packet(decoder, number, packet)
        except av.FFmpegError as error:
            time = "" if packet.pts is None else f" at {float(packet.pts * packet.time_base):.3f} s"
            faults[number] = f"rotten: packet {number}{time} does not decode: {error.strerror}"
            continue
        first = found[0][0] if found and first is None else first
        yield from _sound(found, faults, first)
    else:
        lost = {last} if container.format.name in ENDS_ANYWHERE else set()
    counted = {number: fault for number, fault in faults.items() if number not in lost}
    rest = decode_packet(decoder, -1, None)
    yield from _sound([found for found in rest if found[0] not in faults], counted, first)
    if fault := _find_fault(counted, first, last):
        raise VideoError(fault)


def _sound(
    found: list[tuple[int, "av.VideoFrame"]], faults: dict[int, str], first: int | None
) -> Iterator[tuple[int, "av.VideoFrame"]]:
    """Yield frames; raises `VideoError` at the first one whose packet is at or after a fault."""
    for number, frame in found:
        if fault := _find_fault(faults, first, number):
            raise VideoError(fault)
        yield number, frame


def _find_fault(faults: dict[int, str], first: int | None, last: int) -> str | None:
    """The message of the first fault after the `first` frame's packet, up to the `last` packet; None without one."""
    return next((fault for number, fault in faults.items() if first is not None and first < number <= last), None)


def refreshes(stream: "av.VideoStream", packet: "av.Packet[Any]") -> bool:
    """Whether a key frame fully resets the decoder: some H.264 key frames still need earlier pictures."""
    name = stream.codec_context.name
    return name != "h264" or any(unit[0] & 31 == _IDR for unit in _units(packet, stream.codec_context.extradata, 4))


def has_layers(stream: "av.VideoStream", packet: "av.Packet[Any]") -> bool:
    """Whether an HEVC packet has layers besides the decoded one: transparency, or the other eye's view."""
    if stream.codec_context.name != "hevc":
        return False
    return any((unit[0] & 1) << 5 | unit[1] >> 3 for unit in _units(packet, stream.codec_context.extradata, 21))


def _units(packet: "av.Packet[Any]", header: bytes | None, place: int) -> Iterator[bytes]:
    """The 2-byte headers of the NAL units of an H.264 or HEVC packet."""
    data = bytes(packet)
    if not header or header[0] != 1:  # units follow start codes (ITU-T H.264, annex B)
        yield from (unit[:2] for unit in data.split(b"\0\0\1")[1:] if len(unit) > 1)
        return
    num_bytes, position = (header[place] & 3) + 1, 0  # units follow their lengths (ISO/IEC 14496-15)
    while position + num_bytes + 1 < len(data):
        yield data[position + num_bytes : position + num_bytes + 2]
        position += num_bytes + int.from_bytes(data[position : position + num_bytes], "big")


def decode_packet(decoder: Any, number: int, packet: "av.Packet[Any] | None") -> list[tuple[int, "av.VideoFrame"]]:
    """Feed one packet, None at the end; returns the finished frames, each with the number of its own packet."""
    if packet is not None:
        packet.opaque = (number,)  # a tuple: PyAV looks it up by object address, which small integers share
    frames = decoder.decode(packet)
    if any(frame.opaque is None for frame in frames):
        raise VideoError(f"expected a decoder that tells frames apart, found {decoder.name}")
    return [(frame.opaque[0], frame) for frame in frames]
