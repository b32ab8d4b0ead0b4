"""Where a stage puts a set of files: a folder, or an fsspec address such as `s3://bucket/prefix`."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from fourdistill.data.files import new_folder
from fourdistill.errors import InputError


@dataclass(frozen=True)
class Destination:
    """A folder or an address, which worker processes get as it is."""

    address: str

    @property
    def is_remote(self) -> bool:
        """Whether it is an address."""
        return "://" in self.address

    def filesystem(self) -> tuple[Any, str]:
        """fsspec's file system of an address, and the path in it."""
        return fsspec.url_to_fs(self.address)

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """Give a path to write `name` to; it is there when the block ends well."""
        if not self.is_remote:
            yield Path(self.address) / name
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            yield path
            filesystem, root = self.filesystem()
            filesystem.makedirs(root, exist_ok=True)
            filesystem.put_file(str(path), f"{root}/{name}")


@contextmanager
def new_set(target: str | Path, index: str, suffixes: set[str]) -> Iterator[Destination]:
    """An empty destination for files of these endings and, last of all, their `index`.

    A folder is replaced whole, as by `new_folder`. At an address, where nothing can be renamed, the older set is
    removed first, its index before the rest: files without one are no set. Raises `InputError` where something else is
    there too.
    """
    there = Destination(str(target))
    if not there.is_remote:
        with new_folder(Path(target), suffixes) as partial:
            yield Destination(str(partial.resolve()))
        return
    filesystem, root = there.filesystem()
    filesystem.invalidate_cache()
    old = sorted(map(str, filesystem.find(root)), key=lambda path: (Path(path).name != index, path))
    for path in old:
        folder, _, name = path.rpartition("/")
        ours = name == index or Path(name).suffix in suffixes - {Path(index).suffix}
        if folder.strip("/") != root.strip("/") or not ours:
            raise InputError(
                f"{path}: expected nothing but an older set at {target}: {', '.join(sorted(suffixes))} files directly "
                f"there, and {index}"
            )
    for path in old:
        filesystem.rm_file(path)
    yield there
