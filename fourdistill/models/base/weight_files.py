"""Checks of weight files before loading: which files of a folder are a complete set, and what a file really is.

Names are those of diffusers and transformers: `<stem>[.<variant>][-00001-of-00002].safetensors`, shards with an index.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from fourdistill.errors import InputError

PICKLED = (".bin", ".ckpt", ".pt", ".pth")
_UNFINISHED = (".incomplete", ".part", ".partial", ".crdownload", ".aria2", ".tmp")
_OTHERS = (*PICKLED, ".msgpack", ".h5", ".onnx", ".gguf", ".xml", ".safetensors", *_UNFINISHED)
_MAX_HEADER = 100_000_000  # bytes, as in safetensors


def choose_weights(names: Collection[str], stem: str, variant: str | None) -> tuple[str | None, list[str]]:
    """Names of a folder's files => the variant to load (None: the plain weights), and its files.

    The order of preference: the given variant, the plain weights, the only variant. Raises `InputError` naming what is
    there instead.
    """
    found = complete_weights(names, stem)
    for wanted in (variant, None):
        if wanted in found:
            return wanted, found[wanted]
    if len(found) == 1:
        return next(iter(found.items()))
    if found:
        variants = ", ".join(sorted(str(name) for name in found))
        raise InputError(f"expected `variant` to be one of {variants}, found {variant}")
    raise InputError(f"expected {stem}.safetensors, found {_describe_names(names, stem)}")


def complete_weights(names: Collection[str], stem: str) -> dict[str | None, list[str]]:
    """Names of a folder's files => variant (None: plain) => its files, for complete variants only."""
    found: dict[str | None, list[str]] = {}
    for (variant, count), files in sorted(_weights(names, stem).items(), key=str):
        index = f"{stem}.safetensors.index{'' if variant is None else f'.{variant}'}.json"
        if not count:
            found.setdefault(variant, files)
        elif len(files) == count and index in names:
            found.setdefault(variant, [index, *files])
    return found


def _weights(names: Collection[str], stem: str) -> dict[tuple[str | None, int], list[str]]:
    """(variant, number of shards, 0 for a single file) => the existing files."""
    pattern = re.compile(rf"{stem}(?:\.([\w-]+?))?(?:-\d{{5}}-of-(\d{{5}}))?\.safetensors")
    found: dict[tuple[str | None, int], list[str]] = {}
    for name in sorted(names):
        if match := pattern.fullmatch(name):
            found.setdefault((match[1], int(match[2] or 0)), []).append(name)
    return found


def _describe_names(names: Collection[str], stem: str) -> str:
    """A description of a folder without complete weights."""
    for (_, count), files in _weights(names, stem).items():
        if len(files) < count:
            return f"{len(files)} of {count} parts of it ({files[0]} ...)"
        return f"{files[0]} ... without their index"
    others = sorted(name for name in names if name.lower().endswith(_OTHERS))
    if not others:
        return "no weights"
    if others[0].lower().endswith(PICKLED):
        return f"{others[0]} alone, which is pickled: load and save it once by diffusers to have safetensors"
    return f"{others[0]}{', a download that was broken off' if others[0].endswith(_UNFINISHED) else ''}"


def save_weights(weights: Mapping[str, torch.Tensor], path: Path, name: Path | None = None) -> None:
    """Write tensors as safetensors, each its own copy; raises `InputError` if writing fails.

    `name` is the name in the error, by default the path: the final name, if the file is renamed afterwards.
    """
    # safetensors refuses tensors that share memory.
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}
    try:
        save_file(copies, path)
    except SafetensorError as error:
        raise InputError(f"{name or path}: expected a place to write to: {' '.join(str(error).split())}") from error


def check_safetensors(path: Path, name: str | None = None, expected: str = "weights as safetensors") -> None:
    """Raise `InputError` naming what a file is unless it is a complete safetensors file; weights are not read.

    `name` is the name in the error, by default the path; `expected` is what the file should be.
    """
    found = describe_file(path)
    if found != "safetensors":
        raise InputError(f"{name or path}: expected {expected}, found {found}")
    read_shapes(path, name, expected)


def read_shapes(
    path: Path, name: str | None = None, expected: str = "weights as safetensors"
) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights in a safetensors file by name; raises `InputError` if it is truncated or damaged."""
    try:
        with safe_open(path, "numpy") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        found = "a truncated or damaged file"
        raise InputError(f"{name or path}: expected {expected}, found {found}") from error


def describe_file(path: Path) -> str:
    """The kind of a weights file by its first bytes: `safetensors`, `pickled weights`, or something else.

    Raises `InputError` if there is no readable file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(256)
    except FileNotFoundError as error:
        raise InputError(f"{path}: expected a file of weights, there is no such file") from error
    except OSError as error:
        found = "a folder" if path.is_dir() else f"one that cannot be read: {error.strerror}"
        raise InputError(f"{path}: expected a file of weights, found {found}") from error
    if not size:
        return "an empty file"
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, whose weights `git lfs pull` fetches"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _MAX_HEADER:
        return "safetensors"
    if head.startswith(b"PK\x03\x04") or (head[:1] == b"\x80" and head[1] <= 5):
        return "pickled weights"
    if head.lstrip().startswith(b"<"):
        return "a web page"
    if head.startswith(b"GGUF"):
        return "GGUF"
    return "a text" if head.isascii() and b"\0" not in head else "something else"
