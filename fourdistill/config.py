"""What a parameter may be, and a YAML file of them against a frozen dataclass: a wrong key is an error that names it.

This module knows no stage: each declares its parameters in a dataclass of its own package, and `params.py` composes
them. There are no defaults: `params.yaml` is the one place where values are chosen.
"""

import json
import re
from dataclasses import is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar

from PIL import ImageColor
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from fourdistill.errors import InputError

# Strict: "12" is not a number, and 1 is not a switch. NaN and infinity never get in.
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
Settings = TypeVar("Settings")
_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")  # pydantic's names for these faults
_MISSING = ("missing", "missing_argument")


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


def read_settings(settings: type[Settings], path: Path, over: Path | None = None) -> Settings:
    """Read and check a YAML file; raises `InputError` naming the file, the key and what was expected.

    `over`: another file, of those keys alone whose values are to take the place of the first one's.
    """
    raw = _read(path)
    if over is not None:
        raw, path = _merged(raw, _read(over)), over
    try:
        # Through JSON: pydantic's strict mode then still takes a string for a path and a list for a tuple.
        return TypeAdapter(settings).validate_json(json.dumps(raw, default=str))
    except ValidationError as error:
        raise InputError(f"{path}: {describe_fault(error, settings)}") from error


def _read(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: expected a params file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected a params file in UTF-8: {error.reason}") from error
    try:
        # ruamel speaks YAML 1.2, as DVC does: 1e-4 is a number (PyYAML's 1.1 makes it a string).
        raw = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise InputError(f"{path}: expected a mapping of sections, found {type(raw).__name__}")
    return raw


def _merged(values: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`values` with those of `over` in their place, key by key at every depth."""
    nested = (k for k, v in over.items() if isinstance(v, dict) and isinstance(values.get(k), dict))
    return values | over | {k: _merged(values[k], over[k]) for k in nested}


def describe_fault(error: ValidationError, settings: Any = None) -> str:
    """The first fault of a validation error in one line, and how many more there are.

    `settings`: the dataclass that was read; an unknown key that a section within knows is then told where it belongs.
    """
    # A misspelt key is both an unknown and a missing one: the unknown one is what its author will recognise.
    faults = sorted(error.errors(include_url=False), key=lambda fault: fault["type"] not in _UNKNOWN)
    first = faults[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] in _UNKNOWN:
        line, parent = f"{key}: unknown key", first["loc"][:-1]
        missing = [
            str(fault["loc"][-1]) for fault in faults if fault["type"] in _MISSING and fault["loc"][:-1] == parent
        ]
        near = get_close_matches(str(first["loc"][-1]), missing, n=1) or _places(settings, first["loc"])
        if near:
            return f"{line}; did you mean {near[0]}?"
    elif first["type"] in _MISSING:
        line = f"{key}: missing"
    else:
        expected = first["msg"].removeprefix("Input should be ")
        line = f"{key}: expected {expected}, got {json.dumps(first['input'], default=str)}"
    more = len(faults) - 1
    return line + (f" (and {more} more)" if more else "")


def _places(settings: Any, loc: tuple[str | int, ...]) -> list[str]:
    """The keys of the same name in sections within the one of an unknown key."""
    for name in loc[:-1]:
        settings = _sections(settings).get(str(name))
    parent = ".".join(map(str, loc[:-1]))
    found = {f"{section}.{loc[-1]}" for section, cls in _sections(settings).items() if loc[-1] in _fields(cls)}
    return sorted(f"{parent}.{place}" if parent else place for place in found)


def _fields(settings: Any) -> dict[str, Any]:
    return getattr(settings, "__pydantic_fields__", {})


def _sections(settings: Any) -> dict[str, Any]:
    """The sections of a settings dataclass: their names and dataclasses."""
    return {name: field.annotation for name, field in _fields(settings).items() if is_dataclass(field.annotation)}
