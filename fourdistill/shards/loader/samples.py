"""Blocks of bytes to undecoded samples, grouped as in WebDataset; damaged tars are always detected.

Python's tarfile treats a broken header, or an end without the closing zeros, as the end of the archive. Here the
closing zeros are required, and only zeros may follow. Unneeded members are removed before tarfile sees them, because
reading headers is most of its work. WebDataset's own tar reader is not used because it decompresses compressed data and
accepts any size.
"""

import tarfile
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from webdataset.tariterators import group_by_keys

from fourdistill.shards.loader.opener import Blocks
from fourdistill.storage.addresses import ACCESS_ERRORS
from fourdistill.storage.tars import BoundedTarInfo

MAX_MEMBER = 2**26  # bytes: a hundred times the features of SDXL or a large JPEG
_RECORD = 512  # tar's unit
_NO_RECORD = bytes(_RECORD)  # closes an archive
_FILES = (b"0", b"\0")  # types of regular members; others describe the next member

# Errors from reading a damaged, malicious or unreachable tar.
READ_ERRORS: tuple[type[Exception], ...] = (
    tarfile.TarError, EOFError, ValueError, KeyError, IndexError, OverflowError, RecursionError, *ACCESS_ERRORS,
)  # fmt: skip


def read_samples(open_blocks: Callable[[], Blocks], suffixes: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The samples of one shard, undecoded, with only the members of these suffixes.

    Raises one of `READ_ERRORS` if the shard cannot be opened or is cut off.
    """
    blocks = open_blocks()
    stream = BlockStream(blocks, tuple(suffix.encode() for suffix in suffixes))
    yield from group_by_keys(_members(stream, suffixes), suffixes={suffix[1:] for suffix in suffixes})
    stream.check_end()


def _members(stream: "BlockStream", suffixes: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The members with these endings, in WebDataset's form. Raises `tarfile.ReadError` for one beyond `MAX_MEMBER`."""
    file: Any = stream
    tar: Any = tarfile.open(fileobj=file, mode="r|", tarinfo=BoundedTarInfo)  # noqa: SIM115 - a stream
    for member in tar:
        if member.isreg() and member.name.endswith(suffixes):
            if member.size > MAX_MEMBER or member.issparse():
                raise tarfile.ReadError(f"{member.name[:200]}: expected at most {MAX_MEMBER} bytes, without holes")
            yield {"fname": member.name, "data": tar.extractfile(member).read(), "__url__": ""}
        if tar.pax_headers:  # they accumulate, and write_shards writes none
            raise tarfile.ReadError("expected no header that holds for all members")
        tar.members = []  # else it keeps all of them


class BlockStream:
    """Blocks as the file object that tarfile reads in streaming mode: members with these endings, piece by piece."""

    def __init__(self, blocks: Blocks, suffixes: tuple[bytes, ...]):
        self._blocks, self._size, self._suffixes = blocks.iterator, blocks.size, suffixes
        self._block, self._start, self._offset = b"", 0, 0  # the block at hand, where in it, where in the file
        self._closed = False
        self._pieces = self._wanted()

    def read(self, size: int) -> bytes:
        """The next header or some of the next member, however many bytes were asked for; nothing at the end."""
        return next(self._pieces, b"")

    def _wanted(self) -> Iterator[bytes]:
        keep = False
        while len(header := b"".join(self._take(_RECORD))) == _RECORD:
            self._closed = header == _NO_RECORD
            size = _data_size(header)
            is_file = header[156:157] in _FILES
            wanted = self._closed or keep or not is_file or header[:100].rstrip(b"\0").endswith(self._suffixes)
            keep = not is_file
            if wanted:
                yield header
            if self._closed or size is None:
                return
            for piece in self._take(-(-size // _RECORD) * _RECORD):
                if wanted:
                    yield piece

    def _take(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes, fewer at the end."""
        while size:
            if self._start >= len(self._block):
                self._block, self._start = next(self._blocks, b""), 0
                if not self._block:
                    return
            piece = self._block[self._start : self._start + size]
            self._start, self._offset, size = self._start + len(piece), self._offset + len(piece), size - len(piece)
            yield piece

    def check_end(self) -> None:
        """Raises `tarfile.ReadError` unless the archive ended properly."""
        if not self._closed:
            raise tarfile.ReadError(f"broken at byte {self._offset}: expected another header or the closing zeros")
        for rest in chain([self._block[self._start :]], self._blocks):
            if rest.count(0) != len(rest):
                raise tarfile.ReadError(f"broken before byte {self._offset}: expected nothing after the closing zeros")
            self._offset += len(rest)
        if self._size is not None and self._offset < self._size:
            raise tarfile.ReadError(f"ends after {self._offset} bytes, expected {self._size}")


def _data_size(header: bytes) -> int | None:
    """Bytes of a member, by its header; None if invalid."""
    try:
        size = int(header[124:136].rstrip(b"\0 ") or b"0", 8)
    except ValueError:
        return None
    return size if size >= 0 else None
