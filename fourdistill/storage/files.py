"""Atomic writes (write to a temporary path beside the target, then rename) and file checksums."""

import glob
import hashlib
import os
import platform
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fourdistill.errors import REFUSALS, InputError

_WRITER = re.compile(r"\.(\d+)-\d+\.partial")  # process and thread IDs


def check_writable(path: Path, name: str) -> None:
    """Raise `InputError` if no file can be written to `path`; `name` is the option or file named in the message."""
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"{name}: expected a file in an existing folder, found {path}")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{name}: expected a folder that can be written to, found {path.parent}")


def check_writable_folder(path: Path, name: str) -> None:
    """Like `check_writable`, for a folder; neither it nor its parents need to exist yet."""
    existing = next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))
    if not existing.is_dir():
        raise InputError(f"{name}: expected a folder to write to, found {existing}, which is none")
    if not os.access(existing, os.W_OK):
        raise InputError(f"{name}: expected a folder that can be written to, found {existing}")


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on any exception it is removed.

    Several writers may run at the same time: the file is that of the last to finish. If the operating system refuses
    the write, the `OSError` names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in abandoned(path.parent, path.name):
        left.unlink(missing_ok=True)
    partial = partial_of(path)
    try:
        with _named(path, partial):
            yield partial
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _named(path: Path, partial: Path) -> Iterator[None]:
    """Rewrite an `OSError` about `partial`, or without a file name, so that it names `path`, which the user knows."""
    try:
        yield
    except OSError as error:
        name = str(partial) if error.filename is None else str(error.filename)
        if error.errno not in REFUSALS or not Path(name).is_relative_to(partial):
            raise
        raise OSError(error.errno, error.strerror, str(path / Path(name).relative_to(partial))) from error


def partial_of(path: Path) -> Path:
    """A path beside `path`, unique to this writer: it contains the machine, process and thread."""
    writer = f"{platform.node()}.{os.getpid()}-{threading.get_native_id()}"
    return path.with_name(f".{path.name}.{writer}.partial")


def abandoned(folder: Path, name: str | None = None) -> Iterator[Path]:
    """Partial files of killed processes on this machine, for one name or all; writers on others may be running."""
    pattern = "*" if name is None else glob.escape(name)
    for path in folder.glob(f".{pattern}.{glob.escape(platform.node())}.*.partial"):
        writer = _WRITER.search(path.name)
        if writer is not None and not _is_running(int(writer[1])):
            yield path


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):  # OverflowError: the number is too large for a process ID
        return False
    except PermissionError:  # another user's process
        return True
    return True


@contextmanager
def new_folder(path: Path, suffixes: set[str]) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on success it becomes `path`, on any exception it is removed.

    An existing result at `path` is replaced completely, so that no stale files remain. `suffixes` are the file
    extensions of such a result. Raises `InputError` if the existing folder contains any other file.
    """
    _refuse_foreign(path, suffixes)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A fixed name, not a random one: the next run finds and removes what a killed run left.
    partial, old = (path.with_name(f".{path.name}.{state}") for state in ("partial", "old.partial"))
    shutil.rmtree(partial, ignore_errors=True)
    with _named(path, partial):
        partial.mkdir()
    try:
        with _named(path, partial):
            yield partial
            if path.exists():
                # Rename first: if killed while deleting, half of the old result would remain at `path`.
                shutil.rmtree(old, ignore_errors=True)
                path.replace(old)
            partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _refuse_foreign(path: Path, suffixes: set[str]) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise InputError(f"{path}: expected a folder to write to, found a file")
    for folder, _, names in os.walk(path):
        for name in names:
            if Path(name).suffix not in suffixes:
                raise InputError(
                    f"{Path(folder) / name}: expected only {', '.join(sorted(suffixes))} files in {path}, "
                    "which is replaced as a whole; move this one away"
                )


def sha256(file: Path | Any) -> str:
    """SHA-256 of a file of any size, or of an open file from its current position; raises `OSError`."""
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return sha256(opened)
    return hashlib.file_digest(file, "sha256").hexdigest()
