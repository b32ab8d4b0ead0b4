"""Whether a film's file is as long as it says: a truncated one is not taken for a shorter film.

Only what a container says of its own bytes is believed. A duration in a header proves nothing: it is that of other
streams too, and some recorders never write it.
"""

from pathlib import Path
from typing import Any

from fourdistill.video.film_reader import VideoError

_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067  # ids of Matroska's two outermost elements


def check_whole(path: Path, format_name: str, stream: Any) -> None:
    """Raise `VideoError` where bytes are missing that the file speaks of; its packets have been read."""
    size = path.stat().st_size
    if "mp4" in format_name:
        expected = max((entry.pos + entry.size for entry in stream.index_entries), default=0)
    elif "matroska" in format_name:
        expected = _matroska_size(path)
    else:
        return
    if expected > size:
        raise VideoError(f"truncated: expected {expected} bytes by its own account, found {size}")


def _matroska_size(path: Path) -> int:
    """Where the last byte of a Matroska's segment is, 0 where it does not say (RFC 8794, 4 and 5)."""
    position = 0
    with path.open("rb") as file:
        for expected in (_EBML, _SEGMENT):
            file.seek(position)
            head = file.read(12)
            if int.from_bytes(head[:4], "big") != expected or len(head) < 5 or head[4] == 0:
                return 0
            length = 9 - head[4].bit_length()  # bytes of the size: one more than its leading zeros
            value = int.from_bytes(head[4 : 4 + length], "big") & ((1 << 7 * length) - 1)
            if value == (1 << 7 * length) - 1:
                return 0  # unknown: it was written as it was filmed
            position += 4 + length + value
    return position
