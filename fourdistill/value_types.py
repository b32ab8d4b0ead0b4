"""What the values of `params.yaml` may be, each with what a wrong one should have been."""

import re
from pathlib import Path
from typing import Annotated

from PIL import ImageColor
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError


def _nonzero(value: int) -> int:
    if value == 0:
        raise PydanticCustomError("nonzero", "a number of processes other than 0")
    return value


def _color(value: str) -> str:
    try:
        ImageColor.getrgb(value)
    except ValueError as error:
        raise PydanticCustomError("color", "a colour such as white or #ff8800") from error
    return value


def _ordered(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] > interval[1]:
        raise PydanticCustomError("ordered", "an interval whose first end is not after its last")
    return interval


def _local(value: Path) -> Path:
    if re.match(r"[\w+]+:/", str(value)):
        raise PydanticCustomError("local", "a local path; frames, features and shards alone may be at an address")
    return value


Count = Annotated[int, Field(ge=0)]
PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Jobs = Annotated[int, AfterValidator(_nonzero)]  # -1: one per core
Color = Annotated[str, AfterValidator(_color)]
Interval = Annotated[tuple[Fraction, Fraction], AfterValidator(_ordered)]
LocalPath = Annotated[Path, AfterValidator(_local)]
