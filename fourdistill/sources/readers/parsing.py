"""Parsing of untrusted files: text, JSON of a declared form, arrays, and paths that must stay in their folder."""

import codecs
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from io import BytesIO
from pathlib import Path, PurePath
from tokenize import TokenError
from typing import Any, TypeVar

import numpy as np
from numpy.lib import format as npy
from pydantic import ConfigDict, TypeAdapter, ValidationError

from fourdistill.errors import InputError, one_line
from fourdistill.geometry.poses import is_rigid
from fourdistill.pictures import PictureError, read_header
from fourdistill.sources.names import canonical, spellings

Form = TypeVar("Form")

# For the pydantic dataclasses that declare the form of JSON files: "12" is not a number, and NaN is rejected.
FORM = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)
MAX_BYTES = 1 << 30  # of a description; the largest public COLMAP models are smaller
MAX_SIDE = 1 << 16  # pixels
MAX_NAME = 255  # bytes of a file name, the limit of file systems
_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # written by Windows editors and spreadsheets
_descriptions: ContextVar[set[Path] | None] = ContextVar("descriptions", default=None)


@contextmanager
def noting_descriptions() -> Iterator[set[Path]]:
    """Yield a set that collects the files read as descriptions within the context."""
    noted: set[Path] = set()
    token = _descriptions.set(noted)
    try:
        yield noted
    finally:
        _descriptions.reset(token)


def read_bytes(path: Path, what: str) -> bytes:
    """The contents of a file; raises `InputError` if it cannot be read or is too large."""
    if (noted := _descriptions.get()) is not None:
        noted.add(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: expected {what} of at most {MAX_BYTES >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: expected {what}: {error.strerror}") from error


def read_text(path: Path, what: str) -> str:
    """The contents of a text file, UTF-8 or UTF-16 with a byte order mark; raises `InputError` if it is neither."""
    data = read_bytes(path, what)
    try:
        return data.decode(_MARKS.get(data[:2], "utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected {what} in UTF-8: {error.reason}") from error


def read_json(path: Path, form: type[Form] | Any, what: str) -> Form:
    """The contents of a JSON file of a declared form; raises `InputError` with the field and what was expected."""
    return parse_json(path, read_text(path, what), form, what)


def parse_json(path: Path, text: str, form: type[Form] | Any, what: str) -> Form:
    """JSON text from a file, of a declared form; raises `InputError` with the field and what was expected."""
    try:
        return TypeAdapter(form).validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        message = " ".join(first["msg"].split())
        raise InputError(f"{path}: {field[:200] + ': ' if field else ''}expected {what}: {message[:200]}") from error


def read_array(path: Path) -> np.ndarray:
    """The array of an .npy file, never unpickled; raises `InputError` if the file is invalid or incomplete."""
    file = BytesIO(read_bytes(path, "an .npy array"))
    try:
        version = npy.read_magic(file)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, by_column, dtype = read_header(file)
        # Not `np.load`, which also opens archives, and allocates memory for any shape that the header states.
        flat = np.frombuffer(file.read(), dtype, math.prod(shape))
        return flat.reshape(shape, order="F" if by_column else "C")
    except (ValueError, TypeError, SyntaxError, OverflowError, TokenError) as error:
        raise InputError(f"{path}: expected an .npy array of numbers: {one_line(error, 200)}") from error


def inside(folder: Path, name: str, source: Path) -> Path:
    """The path that a description names, relative to `folder`; raises `InputError` if it leads out of `folder`.

    This covers `..` (which would also be a bad camera name), absolute paths, and links.
    """
    try:
        path, top = (folder / name).resolve(), _resolved(folder)
        parts = PurePath(name).parts
        if ".." not in parts and path != top and top in path.parents:
            if any(len(part.encode(errors="replace")) > MAX_NAME for part in parts):
                raise ValueError("a name too long")
            return folder / name
    except (OSError, ValueError, RuntimeError) as error:  # name too long, null byte, loop of links
        raise InputError(f"{source}: {ascii(name)[:200]}: expected a path: {one_line(error, 200)}") from error
    raise InputError(f"{source}: {ascii(name)[:200]}: expected a path inside {folder}")


@lru_cache(maxsize=16)
def _resolved(folder: Path) -> Path:
    """A folder with its links resolved; cached, because a description names thousands of files in one folder."""
    return folder.resolve()


def locate(folder: Path, name: str, source: Path, endings: Sequence[str] = ("",)) -> Path:
    """The existing file below `folder` that a description names, in any of its `spellings`, with any of the endings.

    If none exists: the canonical spelling, with the last ending if it has none. Raises `InputError` like `inside`.
    """
    for spelling in spellings(name):
        for ending in endings:
            if (path := inside(folder, spelling + ending, source)).is_file():
                return path
    missing = canonical(name)
    return inside(folder, missing if missing.endswith(tuple(filter(None, endings))) else missing + endings[-1], source)


def picture_size(path: Path) -> tuple[int, int] | None:
    """(width, height) as stored, or None if a picture's header cannot be read; its extraction reports why."""
    try:
        return read_header(path).size
    except PictureError:
        return None


def check_pose(c2w: np.ndarray, where: str) -> np.ndarray:
    """Return the pose (4, 4) if it is rigid; raises `InputError`, with a message that starts with `where`."""
    if not is_rigid(c2w):
        raise InputError(f"{where}: expected finite numbers and an orthonormal, right-handed rotation")
    return c2w


def check_size(size: tuple[int, int], where: str) -> tuple[int, int]:
    """Return (width, height) if valid for a picture; raises `InputError`, with a message that starts with `where`."""
    if not all(1 <= length <= MAX_SIDE for length in size):
        raise InputError(f"{where}: expected a width and height of 1 to {MAX_SIDE} pixels, found {size[0]}x{size[1]}")
    return size


def check_lens(K: np.ndarray, where: str) -> np.ndarray:
    """Return K (3, 3) if it is finite with positive focal lengths; raises `InputError` like `check_pose`."""
    if not (np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0):
        raise InputError(f"{where}: expected finite intrinsics and positive focal lengths")
    return K
