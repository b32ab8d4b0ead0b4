"""Reading files that came from outside: text and JSON of a declared form, and paths that must stay in their folder."""

import math
from io import BytesIO
from pathlib import Path, PurePath
from tokenize import TokenError
from typing import Any, TypeVar

import numpy as np
from numpy.lib import format as npy
from PIL import Image
from pydantic import ConfigDict, TypeAdapter, ValidationError

from fourdistill.data.scene import PICTURE_FORMATS
from fourdistill.errors import InputError
from fourdistill.geometry.poses import is_rigid

Form = TypeVar("Form")

# Of the pydantic dataclasses that say what a JSON file must hold: "12" is no number, NaN never gets in.
FORM = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)
MAX_BYTES = 1 << 30  # of a description; the largest public COLMAP models stay below
MAX_SIDE = 1 << 16  # pixels
MAX_NAME = 255  # bytes of a file's name, which is what file systems allow


def reason(error: Exception) -> str:
    """What another library says of a file, as a part of one line: it may quote all of the file."""
    return " ".join(str(error).split())[:200]


def read_bytes(path: Path, what: str) -> bytes:
    """All of a file; raises `InputError` where it cannot be read or is absurdly large."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: expected {what} of at most {MAX_BYTES >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: expected {what}: {error.strerror}") from error


def read_text(path: Path, what: str) -> str:
    """All of a text file; raises `InputError` where it is not UTF-8."""
    try:
        return read_bytes(path, what).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected {what} in UTF-8: {error.reason}") from error


def read_json(path: Path, form: type[Form] | Any, what: str) -> Form:
    """A JSON file of a declared form; raises `InputError` naming the field and what was expected."""
    try:
        return TypeAdapter(form).validate_json(read_bytes(path, what))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        message = " ".join(first["msg"].split())
        raise InputError(f"{path}: {field[:200] + ': ' if field else ''}expected {what}: {message[:200]}") from error


def read_array(path: Path) -> np.ndarray:
    """The one array of an .npy file, never unpickled; raises `InputError` where it is no such file, or not whole."""
    file = BytesIO(read_bytes(path, "an .npy array"))
    try:
        version = npy.read_magic(file)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, by_column, dtype = read_header(file)
        # Not `np.load`, which also opens archives, and makes room for whatever shape the header claims.
        flat = np.frombuffer(file.read(), dtype, math.prod(shape))
        return flat.reshape(shape, order="F" if by_column else "C")
    except (ValueError, TypeError, SyntaxError, OverflowError, TokenError) as error:
        raise InputError(f"{path}: expected an .npy array of numbers: {reason(error)}") from error


def inside(folder: Path, name: str, source: Path) -> Path:
    """The path that a description names, relative to `folder`; raises `InputError` where it leads out of it.

    Neither by `..`, which would also make a bad name for a camera, nor as a whole path, nor through a link.
    """
    try:
        path = (folder / name).resolve()
        parts = PurePath(name).parts
        if ".." not in parts and path.is_relative_to(folder.resolve()) and path != folder.resolve():
            if any(len(part.encode(errors="replace")) > MAX_NAME for part in parts):
                raise ValueError("a name too long")
            return folder / name
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, a loop of links
        raise InputError(f"{source}: {ascii(name)[:200]}: expected a path: {reason(error)}") from error
    raise InputError(f"{source}: {ascii(name)[:200]}: expected a path inside {folder}")


def picture_size(path: Path) -> tuple[int, int] | None:
    """(width, height) by an image file's header, or None where that cannot be read: its extraction will say why."""
    try:
        with Image.open(path, formats=PICTURE_FORMATS) as image:
            return image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def check_pose(c2w: np.ndarray, where: str) -> np.ndarray:
    """The pose (4, 4) itself, if it is rigid; raises `InputError` beginning with `where`."""
    if not is_rigid(c2w):
        raise InputError(f"{where}: expected finite numbers and an orthonormal, right-handed rotation")
    return c2w


def check_size(size: tuple[int, int], where: str) -> tuple[int, int]:
    """The (width, height) itself, if a picture can have it; raises `InputError` beginning with `where`."""
    if not all(1 <= length <= MAX_SIDE for length in size):
        raise InputError(f"{where}: expected a width and height of 1 to {MAX_SIDE} pixels, found {size[0]}x{size[1]}")
    return size


def check_lens(K: np.ndarray, where: str) -> np.ndarray:
    """K (3, 3) itself, if it is finite with positive focal lengths; raises `InputError` beginning with `where`."""
    if not (np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0):
        raise InputError(f"{where}: expected finite intrinsics and positive focal lengths")
    return K
