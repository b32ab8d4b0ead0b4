"""A file of relative poses, JSON or text => matrices."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field

from fourdistill.errors import InputError
from fourdistill.geometry.displacement import Displacement
from fourdistill.sources.readers.parsing import parse_json, read_text

Row = Annotated[list[float], Field(min_length=4, max_length=4)]
Matrix = Annotated[list[Row], Field(min_length=3, max_length=4)]
WHAT = "a 3x4 or 4x4 matrix, or a list of them"


def read_relative_poses(path: Path) -> list[list[list[float]]]:
    """The `source_from_target` matrices of a file, one at least, as rows of 4 numbers.

    JSON is a matrix or a list of matrices. Text has a row of a matrix on each line and an empty line between matrices.
    Raises `InputError` naming the file, and the line, the field or the matrix.
    """
    text = read_text(path, WHAT)
    if text.lstrip().startswith(("[", "{")):
        several = re.match(r"\s*\[\s*\[\s*\[", text)
        poses = parse_json(path, text, list[Matrix], WHAT) if several else [parse_json(path, text, Matrix, WHAT)]
    else:
        poses = _parse_text(path, text)
    if not poses:
        raise InputError(f"{path}: expected {WHAT}, found none")
    for number, pose in enumerate(poses, start=1):
        Displacement.from_user(relative_pose=pose, where=f"{path}: matrix {number}: ")
    return poses


def _parse_text(path: Path, text: str) -> list[list[list[float]]]:
    matrices: list[list[list[float]]] = [[]]
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].replace(",", " ").split()
        if not words:
            matrices.append([])
            continue
        try:
            row = [float(word) for word in words]
        except ValueError:
            row = []
        if len(row) != 4:
            raise InputError(f"{path}: line {number}: expected 4 numbers, a row of a matrix, found {line[:80]!r}")
        matrices[-1].append(row)
    return [matrix for matrix in matrices if matrix]
