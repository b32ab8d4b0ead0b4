"""The packets and the decoded frames of a film, by PyAV; every frame knows the packet that it came from.

Packets are numbered in the order of the file; empty ones, by which an AVI says that nothing has changed, have none.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import av
import av.container
import av.stream

ENDS_ANYWHERE = frozenset({"mpegts", "mpeg", "mpegvideo", "h264", "hevc", "m4v", "vc1"})
"""Containers without a beginning or an end: what is cut off in mid-picture there has lost that picture only."""


_IDR = 5  # of H.264's units: a slice of a picture that refreshes the decoder


class VideoError(Exception):
    """One video cannot be used; `str(error)` says why in one line. Others of the run may be fine."""


@contextmanager
def open_film(path: Path) -> Iterator[tuple["av.container.InputContainer", "av.VideoStream"]]:
    """The container and its first video stream that is no cover picture; raises `VideoError`, within the block too."""
    try:
        # `file:` keeps a name such as "concat:x" a name; the whitelist keeps a playlist from reaching elsewhere.
        # Tags need not be UTF-8 for the pictures to be readable.
        options = {"protocol_whitelist": "file"}
        container = av.open(f"file:{path.absolute()}", options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        raise _unreadable(error) from error
    with container:
        try:
            yield container, _film(container)
        except av.FFmpegError as error:  # no other: a ValueError of the block's own is no word about the film
            raise _unreadable(error) from error


def _unreadable(error: Exception) -> VideoError:
    reason = getattr(error, "strerror", None) or str(error)  # FFmpeg's own words, without its number and the path
    return VideoError(f"not a readable video: {' '.join(reason.split())}")


def _film(container: "av.container.InputContainer") -> "av.VideoStream":
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            if stream.codec_context is None:  # PyAV's types say that there always is one
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
    """A decoder that says of every frame which packet it came from; 0 threads: one per core.

    A `strict` one takes a picture that is decoded in part for a fault, where others guess the rest; and whole ones too,
    as long as they speak of pictures that were cut away with the film's beginning.
    """
    name = alpha_decoder(stream)
    context: Any = av.CodecContext.create(name, "r") if name else stream.codec_context
    context.thread_type, context.thread_count = "AUTO", threads
    context.copy_opaque = True
    context.options = {"err_detect": "explode"} if strict else {}
    return context


def alpha_decoder(stream: "av.VideoStream") -> str | None:
    """The decoder that gives a WebM's transparency, where it has some; FFmpeg's own leave it out."""
    if stream.metadata.get("alpha_mode") != "1":
        return None
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.name)
    return name if name in av.codecs_available else None


def decode_film(
    path: Path, skipped: Collection[int], wanted: Collection[int] | None, threads: int, strict: bool
) -> Iterator[tuple[int, "av.VideoFrame"]]:
    """Decode a film but for the packets that are `skipped`; gives (number of its packet, frame), in order of display.

    Gives what there is of the `wanted` packets, None for all, and stops with the last of them. Raises `VideoError`
    where a picture is rotten; the last one of a film that may end anywhere is left out.
    """
    given: set[int] = set()
    # Several threads report a fault with another packet than the one it is in, or not at all at the end of the film.
    # So they are trusted where nothing is missing; else one thread says what is rotten, and what merely has no picture.
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
    """All frames up to the first fault."""
    with suppress(av.FFmpegError):
        for number, packet in numbered_packets(container, stream):
            if number not in skipped:
                yield from decode_packet(decoder, number, packet)
        yield from decode_packet(decoder, -1, None)


def decode_carefully(
    decoder: Any, container: "av.container.InputContainer", stream: "av.VideoStream", skipped: Collection[int]
) -> Iterator[tuple[int, "av.VideoFrame"]]:
    """All frames, by a decoder of one thread, which reports a fault with its packet; raises `VideoError` for rot.

    What fails before the first frame is none: it needs pictures that were cut away. Before a fault is raised, the
    frames that the decoder held back are given.
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
    """Frames up to the first one whose packet is not before every fault, which raises `VideoError`."""
    for number, frame in found:
        if fault := _find_fault(faults, first, number):
            raise VideoError(fault)
        yield number, frame


def _find_fault(faults: dict[int, str], first: int | None, last: int) -> str | None:
    """What is said of the first fault after the `first` frame's packet, up to the `last` packet."""
    return next((fault for number, fault in faults.items() if first is not None and first < number <= last), None)


def refreshes(stream: "av.VideoStream", packet: "av.Packet[Any]") -> bool:
    """Whether a key frame leaves nothing of what came before it: H.264 also has some after which more is needed."""
    name = stream.codec_context.name
    return name != "h264" or any(unit[0] & 31 == _IDR for unit in _units(packet, stream.codec_context.extradata, 4))


def has_layers(stream: "av.VideoStream", packet: "av.Packet[Any]") -> bool:
    """Whether a packet of HEVC has pictures beside the one that is decoded: transparency, or the other eye's."""
    if stream.codec_context.name != "hevc":
        return False
    return any((unit[0] & 1) << 5 | unit[1] >> 3 for unit in _units(packet, stream.codec_context.extradata, 21))


def _units(packet: "av.Packet[Any]", header: bytes | None, place: int) -> Iterator[bytes]:
    """The heads, of 2 bytes, of the units of an H.264 or HEVC packet."""
    data = bytes(packet)
    if not header or header[0] != 1:  # units follow start codes (ITU-T H.264, annex B)
        yield from (unit[:2] for unit in data.split(b"\0\0\1")[1:] if len(unit) > 1)
        return
    num_bytes, position = (header[place] & 3) + 1, 0  # units follow their lengths (ISO/IEC 14496-15)
    while position + num_bytes + 1 < len(data):
        yield data[position + num_bytes : position + num_bytes + 2]
        position += num_bytes + int.from_bytes(data[position : position + num_bytes], "big")


def decode_packet(decoder: Any, number: int, packet: "av.Packet[Any] | None") -> list[tuple[int, "av.VideoFrame"]]:
    """Feed one packet, None at the end; gives those frames that are done, each with the number of its own packet."""
    if packet is not None:
        packet.opaque = (number,)  # PyAV finds it again by its address, which small integers share: hence a tuple
    frames = decoder.decode(packet)
    if any(frame.opaque is None for frame in frames):
        raise VideoError(f"expected a decoder that tells frames apart, found {decoder.name}")
    return [(frame.opaque[0], frame) for frame in frames]
