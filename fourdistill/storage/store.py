"""Storage for the files of a stage: a local folder, or an fsspec address such as `s3://bucket/prefix`.

A folder is written elsewhere and then renamed, so it is always complete. An address does not support renames: a set
there is complete if it has an `index.json`, which is written last and removed first. A set that is being written has
an `unfinished.json` instead. Files at an address with neither are never removed.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, cast

from joblib import Parallel, delayed

from fourdistill.errors import InputError
from fourdistill.storage.addresses import open_filesystem, reading
from fourdistill.storage.files import new_file, new_folder, sha256

Item = TypeVar("Item")
Result = TypeVar("Result")

INDEX, UNFINISHED = "index.json", "unfinished.json"
_AT_ONCE = 16  # requests of one worker to an address


@dataclass(frozen=True)
class Store:
    """A folder or an address; it can be passed to worker processes, which write their own files to it."""

    address: str
    index_copy: Path | None = None
    """Local path for a second copy of an address's index, which DVC can track."""

    @property
    def is_remote(self) -> bool:
        """Whether it is an address."""
        return "://" in self.address

    def path(self, name: str) -> str:
        """The full name of a file, for messages."""
        return f"{self.address}/{name}"

    def has(self, name: str) -> bool:
        """Whether there is a file of this name; raises `InputError` if an address cannot be reached."""
        if not self.is_remote:
            return (Path(self.address) / name).is_file()
        with reading(self.path(name), "a place to read from"):
            filesystem, root = open_filesystem(self.address)
            return filesystem.isfile(f"{root}/{name}")

    def read(self, name: str, expected: str, start: int | None = None, stop: int | None = None) -> bytes:
        """The bytes of a file, or a range of them; raises `InputError` with its name and what was `expected`."""
        if self.is_remote:
            with reading(self.path(name), expected):
                filesystem, root = open_filesystem(self.address)
                return filesystem.cat_file(f"{root}/{name}", start=start, end=stop)
        try:
            return (Path(self.address) / name).read_bytes()[start:stop]
        except OSError as error:
            raise InputError(f"{self.path(name)}: expected {expected}: {error.strerror}") from error

    def each(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """`function(item)`, in order, for functions that read from this store; at an address, many run at once."""
        if not self.is_remote:
            yield from map(function, items)
            return
        remaining = iter(items)
        with Parallel(_AT_ONCE, backend="threading") as threads:
            while window := list(islice(remaining, 4 * _AT_ONCE)):  # limits the results held in memory
                yield from cast(list[Result], threads(delayed(function)(item) for item in window))

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """Yield a path to write `name` to; the file appears in the store when the block succeeds."""
        if not self.is_remote:
            with new_file(Path(self.address) / name) as path:
                yield path
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(name).name
            yield path
            self.put([path], [name])

    @contextmanager
    def folder(self, name: str, suffixes: set[str]) -> Iterator[Path]:
        """Yield an empty folder for files with these extensions; they appear in `name` when the block succeeds."""
        if not self.is_remote:
            with new_folder(Path(self.address) / name, suffixes) as path:
                yield path
            return
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
            paths = sorted(Path(folder).iterdir())
            self.put(paths, [f"{name}/{path.name}" for path in paths])

    def write_index(self, index: dict[str, Any]) -> None:
        """Write the index; all other files must already be written."""
        text = json.dumps(index, indent=2) + "\n"
        with self.file(INDEX) as path:
            path.write_text(text, encoding="utf-8")
        if self.is_remote:
            with reading(self.address, "a place to write to"):
                filesystem, root = open_filesystem(self.address)
                filesystem.rm_file(f"{root}/{UNFINISHED}")
        if self.is_remote and self.index_copy is not None:
            with new_file(self.index_copy) as path:
                path.write_text(text, encoding="utf-8")

    def put(self, paths: list[Path], names: list[str]) -> None:
        """Copy local files to an address, under these names; raises `InputError` if that fails."""
        with reading(self.address, "a place to write to"):
            filesystem, root = open_filesystem(self.address)
            if "s3" not in filesystem.protocol:  # S3 has no folders, and s3fs would create the bucket
                for folder in {name.rpartition("/")[0] for name in names}:
                    filesystem.makedirs(f"{root}/{folder}", exist_ok=True)
            filesystem.put([str(path) for path in paths], [f"{root}/{name}" for name in names])


def open_set(target: str | Path, stage: str) -> Store:
    """The set at a folder or an address; raises `InputError` if an address lacks a complete set from `stage`."""
    store = Store(str(target).rstrip("/"))
    if store.is_remote:
        try:
            json.loads(store.read(INDEX, f"the index of {stage}, which it writes last"))
        except ValueError as error:
            raise InputError(f"{store.path(INDEX)}: expected the index of {stage}, found a part of one") from error
    return store


@contextmanager
def new_set(target: str | Path, suffixes: set[str], *, depth: int, index_copy: Path | None = None) -> Iterator[Store]:
    """An empty store for files with these extensions, `depth` folders down.

    A folder is replaced completely, as by `new_folder`. At an address the existing set is removed first, and the
    caller must write the index at the end (`Store.write_index`). Raises `InputError` if there are any other files.
    """
    store = Store(str(target).rstrip("/"), index_copy)
    if not store.is_remote:
        if index_copy is not None:
            index_copy.unlink(missing_ok=True)
        with new_folder(Path(target), suffixes) as partial:
            yield Store(str(partial.resolve()))
        return
    with reading(store.address, "a place to write to"):
        _remove_set(store, suffixes, depth)
    if index_copy is not None:
        index_copy.unlink(missing_ok=True)
    yield store


def _remove_set(store: Store, suffixes: set[str], depth: int) -> None:
    """Mark the address as being written, and remove the files of the existing set, its index first."""
    filesystem, root = open_filesystem(store.address)
    filesystem.invalidate_cache()
    names = {str(path).strip("/")[len(root.strip("/")) :].strip("/") for path in filesystem.find(root)}
    files = sorted(names - {"", INDEX, UNFINISHED})  # the root itself may be an object
    if files and not names & {INDEX, UNFINISHED}:
        raise InputError(
            f"{store.path(files[0])}: expected nothing at {store.address}, or an older set with its {INDEX}; "
            "choose another address, or remove what is there"
        )
    endings = sorted(suffixes - {Path(INDEX).suffix})
    for name in files:
        if name.count("/") > depth or Path(name).suffix not in endings:
            raise InputError(
                f"{store.path(name)}: expected nothing but an older set at {store.address}: {INDEX}, and "
                f"{' or '.join('*/' * depth + '*' + ending for ending in endings)}"
            )
    with store.file(UNFINISHED) as path:
        path.write_text("{}\n", encoding="utf-8")
    if INDEX in names:
        filesystem.rm_file(f"{root}/{INDEX}")
    for _ in store.each(filesystem.rm_file, [f"{root}/{name}" for name in files]):
        pass


def checksum(path: Path) -> dict[str, Any]:
    """Bytes and SHA-256 of a file, or of a folder's files and their names, for index files."""
    if path.is_file():
        return {"bytes": path.stat().st_size, "sha256": sha256(path)}
    files = [{"name": file.name, **checksum(file)} for file in sorted(path.iterdir())]
    digest = hashlib.sha256(json.dumps(files).encode()).hexdigest()
    return {"files": len(files), "bytes": sum(file["bytes"] for file in files), "sha256": digest}
