"""Writing without ever leaving half a result: build beside the target, then rename."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fourdistill.errors import InputError


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it becomes `path`, on any exception it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path, suffixes: set[str]) -> Iterator[Path]:
    """Give an empty folder beside `path`; on success it becomes `path`, on any exception it is removed.

    An older result at `path` is replaced whole, so that nothing stale survives. `suffixes` are the file endings that
    such a result consists of: a folder that holds anything else is not ours to delete, and raises `InputError`.
    """
    _refuse_foreign(path, suffixes)
    path.parent.mkdir(parents=True, exist_ok=True)
    # One name, not a random one: what a killed run left is found and cleared by the next.
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            shutil.rmtree(path)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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
