"""Writing without ever leaving half a result: build beside the target, then rename. And checksums of files."""

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

_WRITER = re.compile(r"\.(\d+)-\d+\.partial")  # process and thread


def check_writable(path: Path, name: str) -> None:
    """Raise `InputError` in a `name`, that of an option or of the file, where no file can be written to a path."""
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"{name}: expected a file in an existing folder, found {path}")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{name}: expected a folder that can be written to, found {path.parent}")


def check_writable_folder(path: Path, name: str) -> None:
    """The same for a folder, which need not exist yet, nor those around it."""
    existing = next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))
    if not existing.is_dir():
        raise InputError(f"{name}: expected a folder to write to, found {existing}, which is none")
    if not os.access(existing, os.W_OK):
        raise InputError(f"{name}: expected a folder that can be written to, found {existing}")


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it becomes `path`, on any exception it is removed.

    Several may write at a time: the last one to end gives the file. What the machine refuses is an `OSError` that
    names `path`.
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
    """What the machine refuses of `partial`, or of what it does not name, is said of `path`, which the user knows."""
    try:
        yield
    except OSError as error:
        name = str(partial) if error.filename is None else str(error.filename)
        if error.errno not in REFUSALS or not Path(name).is_relative_to(partial):
            raise
        raise OSError(error.errno, error.strerror, str(path / Path(name).relative_to(partial))) from error


def partial_of(path: Path) -> Path:
    """A name beside `path` that no other writer has: machine, process and thread are part of it."""
    writer = f"{platform.node()}.{os.getpid()}-{threading.get_native_id()}"
    return path.with_name(f".{path.name}.{writer}.partial")


def abandoned(folder: Path, name: str | None = None) -> Iterator[Path]:
    """What killed processes of this machine left of files of this name, or of all: those of others may be alive."""
    pattern = "*" if name is None else glob.escape(name)
    for path in folder.glob(f".{pattern}.{glob.escape(platform.node())}.*.partial"):
        writer = _WRITER.search(path.name)
        if writer is not None and not _is_running(int(writer[1])):
            yield path


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):  # no process has that large a number
        return False
    except PermissionError:  # another user's
        return True
    return True


@contextmanager
def new_folder(path: Path, suffixes: set[str]) -> Iterator[Path]:
    """Give an empty folder beside `path`; on success it becomes `path`, on any exception it is removed.

    An older result at `path` is replaced whole, so that nothing stale survives. `suffixes` are the file endings that
    such a result consists of: a folder that holds anything else is not ours to delete, and raises `InputError`.
    """
    _refuse_foreign(path, suffixes)
    path.parent.mkdir(parents=True, exist_ok=True)
    # One name, not a random one: what a killed run left is found and cleared by the next.
    partial, old = (path.with_name(f".{path.name}.{state}") for state in ("partial", "old.partial"))
    shutil.rmtree(partial, ignore_errors=True)
    with _named(path, partial):
        partial.mkdir()
    try:
        with _named(path, partial):
            yield partial
            if path.exists():
                # Out of the way in one step: killed while deleting, half of the old result would stay under its name.
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
    """SHA-256 of a file of any size, or of an open one from where it stands; raises `OSError`."""
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return sha256(opened)
    return hashlib.file_digest(file, "sha256").hexdigest()
