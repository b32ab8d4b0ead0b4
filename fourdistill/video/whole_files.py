"""Detect truncated files, which would otherwise be read as shorter films.

Only byte sizes stated in the container are used. The duration in a header is no evidence: it also covers other
streams, and some recorders never write it.
"""

from pathlib import Path
from typing import Any

from fourdistill.video.film_reader import VideoError

_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067  # IDs of Matroska's two outermost elements


def check_whole(path: Path, format_name: str, stream: Any) -> None:
    """Raise `VideoError` if the file is shorter than it states. Its packets must have been read before."""
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
    """Byte position of the end of a Matroska file's segment, 0 if not stated (RFC 8794, 4 and 5)."""
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
                return 0  # unknown: written live while recording
            position += 4 + length + value
    return position
