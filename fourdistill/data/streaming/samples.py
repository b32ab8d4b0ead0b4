"""Blocks of bytes to undecoded samples: WebDataset takes the tar apart, and a damaged tar never passes for a short one.

Python's tarfile takes a broken header in the middle of an archive, or an end without the closing zeros, for the end of
it. Here whatever follows must be zeros, and the last thing read must have been.
"""

import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from webdataset.tariterators import group_by_keys, tar_file_expander

from fourdistill.data.streaming.addresses import ACCESS_ERRORS
from fourdistill.data.streaming.opener import Blocks

_RECORD = 512  # tar's unit
_PIECE = 20 * _RECORD  # what tarfile asks for
_TAIL = 4 * _PIECE  # at the end, record by record: so the last one read is known

# What reading a damaged, malicious or unreachable tar may raise.
READ_ERRORS: tuple[type[Exception], ...] = (
    tarfile.TarError, EOFError, ValueError, KeyError, IndexError, OverflowError, zlib.error, lzma.LZMAError,
    *ACCESS_ERRORS,
)  # fmt: skip


def read_samples(open_blocks: Callable[[], Blocks], suffixes: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The samples of one shard, undecoded, with the members of these suffixes alone.

    Raises one of `READ_ERRORS` where the shard cannot be opened or breaks off.
    """
    blocks = open_blocks()
    stream = BlockStream(blocks)
    source = {"url": blocks.shard.url, "stream": stream}
    members = tar_file_expander([source], select_files=lambda name: name.endswith(suffixes))
    yield from group_by_keys(members)
    stream.check_end()


class BlockStream:
    """Blocks as the file object that tarfile's streaming mode reads."""

    def __init__(self, blocks: Blocks):
        self._blocks, self._size = blocks.iterator, blocks.size
        self._block, self._start, self._offset = b"", 0, 0  # the block at hand, where in it, where in the file
        self._last = b""

    def read(self, size: int) -> bytes:
        """About `size` bytes, less near the end, none after it."""
        if self._start >= len(self._block):
            self._block, self._start = next(self._blocks, b""), 0
        near_end = self._size is None or self._offset > self._size - _TAIL
        stop = self._start + (_RECORD if near_end else _PIECE)
        self._last = self._block[self._start : stop] or self._last
        piece = self._block[self._start : stop]
        self._start, self._offset = stop, self._offset + len(piece)
        return piece

    def check_end(self) -> None:
        """Raises `tarfile.ReadError` unless the archive ended as archives end."""
        if self._last.count(0) != len(self._last):
            raise tarfile.ReadError(f"broken at byte {self._offset}: expected another header or the closing zeros")
        for rest in chain([self._block[self._start :]], self._blocks):
            if rest.count(0) != len(rest):
                raise tarfile.ReadError(f"broken before byte {self._offset}: expected nothing after the closing zeros")
            self._offset += len(rest)
        if self._size is not None and self._offset < self._size:
            raise tarfile.ReadError(f"ends after {self._offset} bytes, expected {self._size}")
