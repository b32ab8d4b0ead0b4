"""A local folder of fetched shards, bounded in size, shared by any number of processes.

WebDataset's own cache uses base names as keys, so two sources would get each other's shards.
"""

import hashlib
import logging
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from fourdistill.storage.files import abandoned, partial_of

_OURS = re.compile(r"[0-9a-f]{64}\.tar|\.[0-9a-f]{64}\.tar\..+\.partial")
_log = logging.getLogger(__name__)


class ShardCache:
    """Files by key; the least recently used are removed first.

    Args:
        folder: created where needed; other files in it are left alone.
        max_bytes: limit for all files here, including those being written.
    """

    def __init__(self, folder: Path, max_bytes: float):
        self.folder, self.max_bytes = folder, max_bytes
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / ".lock")

    def get(
        self, key: str, size: int | None, write: Callable[[BinaryIO], None], check: Callable[[BinaryIO], None]
    ) -> BinaryIO | None:
        """The open file of a key, written by `write` if it is missing; None if it would not fit.

        `check` raises `OSError` for a damaged file. An existing file is then rewritten; if a new file fails, or `write`
        raises, nothing is left behind.
        """
        if size is None or size > self.max_bytes:
            return None
        path = self.folder / f"{hashlib.sha256(key.encode()).hexdigest()}.tar"
        if (file := self._open(path, size, check)) is not None:
            return file
        partial = partial_of(path)
        try:
            with partial.open("w+b") as file:
                with self._lock:
                    self._make_room(size, partial)
                    file.truncate(size)  # reserves the space
                write(file)
                complete = file.tell() == size
                file.truncate()  # drop the unwritten zeros
                check(file)
            file = partial.open("rb")
            if complete:  # else it is read once and fetched again next time
                partial.replace(path)
            return file
        finally:
            partial.unlink(missing_ok=True)

    def _open(self, path: Path, size: int, check: Callable[[BinaryIO], None]) -> BinaryIO | None:
        """Open the file at that path and mark it as used; remove it if it is damaged."""
        try:
            file = path.open("rb")  # stays readable even if another process removes it
        except FileNotFoundError:
            return None
        try:
            if (found := os.fstat(file.fileno()).st_size) != size:
                raise OSError(f"expected {size} bytes, found {found}")
            check(file)
        except OSError as error:
            file.close()
            path.unlink(missing_ok=True)
            _log.warning("%s: dropped from the cache, to be fetched anew: %s", path, error)
            return None
        os.utime(file.fileno())
        return file

    def _make_room(self, size: int, own: Path) -> None:
        """Remove the least recently used files until `size` bytes fit. Must be called under the lock."""
        for left in abandoned(self.folder):
            left.unlink(missing_ok=True)
        stats = []
        for path in self.folder.iterdir():
            if _OURS.fullmatch(path.name) and path != own:
                with suppress(FileNotFoundError):  # renamed or removed by another process meanwhile
                    stats.append((path.stat(), path))
        total = sum(stat.st_size for stat, _ in stats) + size
        for stat, path in sorted(stats, key=lambda entry: entry[0].st_mtime_ns):
            if total <= self.max_bytes:
                return
            if path.suffix == ".tar":
                path.unlink(missing_ok=True)
                total -= stat.st_size
