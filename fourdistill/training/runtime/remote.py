"""Checkpoints at an fsspec address (`s3://bucket/run`), for machines without persistent disks.

An object store has no rename: a checkpoint is valid once its last file, the fingerprint, exists. Removal starts with
that file.
"""

from pathlib import Path
from typing import Any

from fourdistill.errors import InputError
from fourdistill.storage.addresses import open_filesystem, reading
from fourdistill.storage.store import Store


class RemoteCheckpoints:
    """Complete checkpoint folders under an address; any failure there raises an `InputError` naming the address.

    Args:
        address: an fsspec address.
        marker: the file of a checkpoint that is written last.
    """

    def __init__(self, address: str, marker: str):
        self.filesystem: Any
        self.filesystem, self.root = open_filesystem(address)
        self.store, self.marker = Store(address), marker

    def names(self) -> list[str]:
        """The complete checkpoints, oldest first."""
        with reading(self.store.address, "a place for checkpoints"):
            self.filesystem.invalidate_cache()
            found = self.filesystem.glob(f"{self.root}/step-*/{self.marker}")
        return sorted(str(path).rsplit("/", 2)[-2] for path in found)

    def put(self, folder: Path) -> None:
        """Upload a checkpoint under its own name."""
        paths = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / self.marker)
        for path in [*paths, folder / self.marker]:
            self.store.put([path], [f"{folder.name}/{path.relative_to(folder).as_posix()}"])

    def get(self, name: str, folder: Path) -> None:
        """Copy the checkpoint `name` into an empty folder."""
        source = f"{self.root}/{name}"
        with reading(self.store.path(name), "a checkpoint"):
            for address in self.filesystem.find(source):
                path = folder / str(address)[len(source) :].lstrip("/")
                if not path.resolve().is_relative_to(folder.resolve()):  # object names are arbitrary
                    raise InputError(f"{address}: expected a name inside of the checkpoint")
                path.parent.mkdir(parents=True, exist_ok=True)
                self.filesystem.get_file(address, str(path))

    def remove(self, name: str) -> None:
        """Remove a checkpoint, its marker first."""
        with reading(self.store.path(name), "a checkpoint to remove"):
            self.filesystem.rm_file(f"{self.root}/{name}/{self.marker}")
            if self.filesystem.exists(f"{self.root}/{name}"):
                self.filesystem.rm(f"{self.root}/{name}", recursive=True)
