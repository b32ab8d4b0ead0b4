"""Upload of a folder of shards such that a reader never sees an index of missing tars.

Tars are sent first, the index last. Until then a mark tells readers to wait, as with write_shards. Existing tars of the
same size and checksum are not sent again, so an interrupted upload resumes. The mark lists the tars of the replaced
set; those not in the new set are removed at the end.
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fourdistill.errors import InputError
from fourdistill.features.codes import CODEC
from fourdistill.shards.loader.shard_list import TAR_NAME, Shard, list_shards
from fourdistill.storage.addresses import open_filesystem, reading
from fourdistill.storage.files import sha256
from fourdistill.storage.store import INDEX, UNFINISHED


@dataclass(frozen=True)
class Published:
    """The result of an upload."""

    address: str
    uploaded: list[str]
    """Names of the tars that were sent."""
    skipped: list[str]
    """Names of the tars that were already there."""
    bytes: int
    """Bytes sent."""


def publish_shards(
    folder: Path,
    address: str,
    *,
    replace: bool = False,
    jobs: int = 4,
    on_progress: Callable[[str, int], None] | None = None,
) -> Published:
    """Copy the shards of `folder` and their index to `address`; `on_progress` gets each tar's name and bytes.

    Raises `InputError` if a tar does not match the index, if access is denied, or if other shards are already published
    at the address and `replace` is False.
    """
    if not (folder / INDEX).is_file():
        raise InputError(f"{folder / INDEX}: expected the index of write_shards, found none")
    tars = list_shards(str(folder))
    shards = [*tars, *_codec(folder, tars[0].codec)]
    unsigned = [shard.url for shard in shards if shard.sha256 is None or shard.bytes is None]
    if unsigned:
        raise InputError(f"{folder / INDEX}: {Path(unsigned[0]).name}: expected its bytes and sha256")
    target = _Target(address)
    with reading(address, "a place to write to"):
        index = (folder / INDEX).read_bytes()
        target.prepare(index, replace)
        with ThreadPoolExecutor(jobs) as pool:
            sent = list(pool.map(lambda shard: _publish(shard, target, on_progress), shards))
        target.finish(index)
    names = [Path(shard.url).name for shard in shards]
    uploaded = [name for name, was_sent in zip(names, sent, strict=True) if was_sent]
    sizes = {Path(shard.url).name: shard.bytes or 0 for shard in shards}
    return Published(
        address, uploaded, [name for name in names if name not in uploaded], sum(sizes[name] for name in uploaded)
    )


def _codec(folder: Path, sha256: str | None) -> list[Shard]:
    """The codec of shards with codes, which is sent like a tar."""
    path = folder / CODEC
    if sha256 is None:
        return []
    if not path.is_file():
        raise InputError(f"{path}: expected this codec by {INDEX}, found none")
    return [Shard(str(path), "", bytes=path.stat().st_size, sha256=sha256)]


def _publish(shard: Shard, target: "_Target", on_progress: Callable[[str, int], None] | None) -> bool:
    """Send one tar unless it is already there; return whether it was sent."""
    local = Path(shard.url)
    is_there = target.holds(shard)
    if not is_there:
        try:
            found = sha256(local)
        except OSError as error:
            raise InputError(f"{local}: expected this tar by {INDEX}: {error.strerror}") from error
        if found != shard.sha256:
            raise InputError(f"{local}: sha256: expected {shard.sha256} by {INDEX}, found {found}")
        target.put(local, shard)
    if on_progress is not None:
        on_progress(local.name, shard.bytes or 0)
    return not is_there


def _list_tars(index: bytes | None) -> set[str]:
    """Valid tar names listed in an index or a mark, if any."""
    try:
        names = [entry["name"] for entry in json.loads(index or b"{}")["shards"]]
    except (ValueError, KeyError, TypeError):
        return set()
    return {name for name in names if isinstance(name, str) and TAR_NAME.fullmatch(name)}


class _Target:
    """The destination of shards. S3 stores their checksums; elsewhere they are computed from the uploaded data."""

    def __init__(self, address: str):
        self.address = address
        self.filesystem: Any
        self.filesystem, self._root = open_filesystem(address)
        self._is_s3 = "s3" in self.filesystem.protocol

    def path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def prepare(self, index: bytes, replace: bool) -> None:
        """Mark the destination as unfinished and remove another index, unless this index is already there."""
        if not self._is_s3:
            self.filesystem.makedirs(self._root, exist_ok=True)
        found = self._read_if_there(INDEX)
        if found == index:
            return
        if found is not None and not replace:
            raise InputError(
                f"{self.address}: expected no other shards there, found another {INDEX}; choose another address, "
                "or replace them (--replace)"
            )
        older = _list_tars(found) | _list_tars(self._read_if_there(UNFINISHED))
        mark = {"shards": [{"name": name} for name in sorted(older)]}
        self.filesystem.pipe_file(self.path(UNFINISHED), json.dumps(mark).encode())
        if found is not None:  # until the new index exists, nothing else lists the tars
            self.filesystem.rm_file(self.path(INDEX))

    def finish(self, index: bytes) -> None:
        """Write the index, then remove the old set's other tars, and the mark."""
        if self._read_if_there(INDEX) != index:
            self.filesystem.pipe_file(self.path(INDEX), index)
        mark = self._read_if_there(UNFINISHED)
        if mark is None:
            return
        for name in sorted(_list_tars(mark) - _list_tars(index)):
            with suppress(FileNotFoundError):  # an earlier attempt may have removed it
                self.filesystem.rm_file(self.path(name))
        self.filesystem.rm_file(self.path(UNFINISHED))

    def _read_if_there(self, name: str) -> bytes | None:
        try:
            return self.filesystem.cat_file(self.path(name))
        except FileNotFoundError:
            return None

    def holds(self, shard: Shard) -> bool:
        """Whether the tar exists with the same size and checksum."""
        path = self.path(Path(shard.url).name)
        try:
            if self.filesystem.info(path)["size"] != shard.bytes:
                return False
        except FileNotFoundError:
            return False
        if self._is_s3:
            return self.filesystem.metadata(path).get("sha256") == shard.sha256
        with self.filesystem.open(path, "rb") as file:
            return sha256(file) == shard.sha256

    def put(self, local: Path, shard: Shard) -> None:
        path = self.path(local.name)
        if self._is_s3:
            self.filesystem.put_file(str(local), path, Metadata={"sha256": shard.sha256})
        else:
            self.filesystem.put_file(str(local), path)
