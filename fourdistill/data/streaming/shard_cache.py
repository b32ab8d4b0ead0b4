"""A local folder of fetched shards, bounded in size, shared by any number of processes.

WebDataset's own cache goes by base names, so that two sources would get each other's shards.
"""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

_OURS = re.compile(r"[0-9a-f]{64}\.tar|\.[0-9a-f]{64}\.\d+\.partial")


class ShardCache:
    """Files by key; the longest unused go first.

    Args:
        folder: created where needed; other files in it are left alone.
        max_bytes: of all files here, those being written included.
    """

    def __init__(self, folder: Path, max_bytes: float):
        self.folder, self.max_bytes = folder, max_bytes
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / ".lock")

    def get(self, key: str, size: int | None, write: Callable[[BinaryIO], None]) -> BinaryIO | None:
        """The open file of a key, written by `write` where it is not here; None where it would not fit.

        What `write` raises leaves nothing behind.
        """
        name = hashlib.sha256(key.encode()).hexdigest()
        path = self.folder / f"{name}.tar"
        try:
            file = path.open("rb")  # open, it stays readable whoever makes room meanwhile
            os.utime(path)
            return file
        except FileNotFoundError:
            pass
        if size is None or size > self.max_bytes:
            return None
        partial = self.folder / f".{name}.{os.getpid()}.partial"
        try:
            with partial.open("w+b") as file:
                with self._lock:
                    self._make_room(size, partial)
                    file.truncate(size)  # counts from now on
                write(file)
                complete = file.tell() == size
                file.truncate()  # what did not come is no zeros
            file = partial.open("rb")
            if complete:  # else it is read once, and fetched anew the next time
                partial.replace(path)
            return file
        finally:
            partial.unlink(missing_ok=True)

    def _make_room(self, size: int, own: Path) -> None:
        """Remove the longest unused files until `size` bytes fit. To be called under the lock."""
        files = [path for path in self.folder.iterdir() if _OURS.fullmatch(path.name) and path != own]
        for path in [path for path in files if path.suffix == ".partial" and not _is_alive(path)]:
            path.unlink(missing_ok=True)  # of a killed process
        stats = [(path.stat(), path) for path in files if path.exists()]
        total = sum(stat.st_size for stat, _ in stats) + size
        for stat, path in sorted(stats, key=lambda entry: entry[0].st_mtime_ns):
            if total <= self.max_bytes:
                return
            if path.suffix == ".tar":
                path.unlink(missing_ok=True)
                total -= stat.st_size


def _is_alive(partial: Path) -> bool:
    """Whether the process that writes this file still runs."""
    try:
        os.kill(int(partial.name.split(".")[2]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
