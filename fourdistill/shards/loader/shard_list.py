"""Listing of the shards at an address.

    data/shards, s3://bucket/prefix/                     from the index.json there, else by listing
    data/shards/train-{000000..000015}.tar, s3://...     from the braces, with data from an index.json beside them

Names are split-number.tar, as given by write_shards. Names in an index are checked and never followed elsewhere.
Nothing is listed for a set that is marked as unfinished (still being written, or interrupted).
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from braceexpand import braceexpand

from fourdistill.errors import InputError
from fourdistill.storage.addresses import open_filesystem, reading
from fourdistill.storage.store import INDEX, UNFINISHED
from fourdistill.tables import SPLITS

TAR_NAME = re.compile(rf"({'|'.join(SPLITS)})-\d+\.tar")


@dataclass(frozen=True)
class Shard:
    """One tar and its known properties; None if unknown."""

    url: str
    split: str
    samples: int | None = None
    bytes: int | None = None
    sha256: str | None = None
    codec: str | None = None
    """SHA-256 of the set's codec, if its image embeddings are codes."""


@dataclass(frozen=True)
class Source:
    """An address of shards and its weight in a mixture of sources; weights need not add up to one."""

    address: str
    weight: float = 1.0


Shards = str | Path | Sequence[Source]


def to_sources(shards: Shards) -> list[Source]:
    """One address, or several sources => sources."""
    return [Source(str(shards))] if isinstance(shards, (str, Path)) else list(shards)


def list_splits(shards: Shards) -> set[str]:
    """The splits that have shards. Raises `InputError` if there is nothing to list."""
    return {shard.split for source in to_sources(shards) for shard in list_shards(source.address)}


def list_shards(address: str, split: str | None = None) -> list[Shard]:
    """The shards at an address, those of one split or all, in the order of their names."""
    if split is not None and split not in SPLITS:
        raise InputError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    found = _by_pattern(address) if "{" in address or address.endswith(".tar") else _in_folder(address.rstrip("/"))
    shards = [shard for shard in found if split in (None, shard.split)]
    if not shards:
        what = "shards" if split is None else f"shards of split {split}"
        raise InputError(f"{address}: expected {what}, found none; see write_shards and build_pairs.num_pairs")
    return shards


def fingerprint_shards(shards: Shards) -> str:
    """SHA-256 of all known properties and weights of the shards, to detect changes."""
    sources = [(source.weight, list_shards(source.address)) for source in to_sources(shards)]
    known = [
        [weight, [[s.url.rsplit("/", 1)[-1], s.samples, s.bytes, s.sha256] for s in found]] for weight, found in sources
    ]
    known += [[found[0].codec] for _, found in sources if found[0].codec is not None]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _by_pattern(address: str) -> list[Shard]:
    try:
        urls = list(braceexpand(address))
    except ValueError as error:
        raise InputError(f"{address}: expected braces such as train-{{000000..000015}}.tar: {error}") from error
    known = {folder: read_index(folder) or {} for folder in {_folder(url) for url in urls}}
    return [known[_folder(url)].get(_name(url)) or Shard(url, _split_of(_name(url), address)) for url in urls]


def _in_folder(folder: str) -> list[Shard]:
    known = read_index(folder)
    if known is not None:
        return [known[name] for name in sorted(known)]
    filesystem, path = open_filesystem(folder)
    with reading(folder, f"shards, with or without an {INDEX}"):
        filesystem.invalidate_cache()
        entries = filesystem.ls(path, detail=True)
    sizes = {_name(entry["name"]): entry.get("size") for entry in entries if TAR_NAME.fullmatch(_name(entry["name"]))}
    return [Shard(f"{folder}/{name}", _split_of(name, folder), bytes=sizes[name]) for name in sorted(sizes)]


def read_index(folder: str) -> dict[str, Shard] | None:
    """The shards of a folder's `index.json` by name, or None if there is no such file.

    Raises `InputError` if the set is unfinished, so that the index is still to be written.
    """
    text = _read_if_there(folder, INDEX)
    if text is None:
        if _read_if_there(folder, UNFINISHED) is not None:
            raise InputError(
                f"{folder}/{UNFINISHED}: expected all shards of the set, found that they are still being written, or "
                f"were not to the end; wait for the {INDEX}, or run write_shards or push-shards again"
            )
        return None
    try:
        index = json.loads(text)
        if not index["features"]:
            raise InputError(
                f"{folder}/{INDEX}: features: expected shards with features; set write_shards.features: true"
            )
        codec = index["codec"]["sha256"] if "codec" in index else None
        if codec is not None:
            _check_sha256(codec, f"{folder}/{INDEX}: codec")
        shards = [replace(_from_entry(folder, entry), codec=codec) for entry in index["shards"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}/{INDEX}: expected the index that write_shards writes: {error!r}") from error
    return {_name(shard.url): shard for shard in shards}


def _read_if_there(folder: str, name: str) -> bytes | None:
    filesystem, path = open_filesystem(f"{folder}/{name}")
    with reading(folder, f"shards, with or without an {INDEX}"):
        try:
            return filesystem.cat_file(path)
        except FileNotFoundError:
            return None


def _from_entry(folder: str, entry: dict[str, Any]) -> Shard:
    name, size, samples, sha256 = entry["name"], entry["bytes"], entry.get("samples"), entry.get("sha256")
    split = _split_of(name, f"{folder}/{INDEX}")
    if split != entry["split"]:
        raise InputError(f"{folder}/{INDEX}: expected names such as {entry['split']}-000000.tar, found {name!r}")
    for value, key in ((size, "bytes"), (samples, "samples")):
        if value is not None and (type(value) is not int or value < 0):
            raise InputError(f"{folder}/{INDEX}: {name}: {key}: expected a count, found {value!r}")
    if sha256 is not None:
        _check_sha256(sha256, f"{folder}/{INDEX}: {name}")
    return Shard(f"{folder}/{name}", split, samples, size, sha256)


def _check_sha256(sha256: Any, where: str) -> None:
    if not (isinstance(sha256, str) and re.fullmatch(r"[0-9a-f]{64}", sha256)):
        raise InputError(f"{where}: sha256: expected 64 hexadecimal digits, found {sha256!r}")


def _split_of(name: Any, where: str) -> str:
    match = TAR_NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise InputError(f"{where}: expected names such as train-000000.tar, found {name!r}")
    return match[1]


def _folder(url: str) -> str:
    return url.rpartition("/")[0] or "."


def _name(url: str) -> str:
    return url.rstrip("/").rpartition("/")[2]
