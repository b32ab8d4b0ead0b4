"""Settings of a set of scenes: read from params.yaml and the command line, checked, and saved beside the scenes."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from clips import expand_groups, parts
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from fourdistill.errors import InputError

LAYOUTS = ("ring", "jittered")
SECTION = "render"
KEPT_FILE = "settings.json"

Count = Annotated[int, Field(ge=1)]


def _motion(name: str) -> str:
    parts(name)  # or ValueError
    return name


Motion = Annotated[str, AfterValidator(_motion)]


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid"))
class Settings:
    """One set of scenes; `resolution` pixels a side (even: H.264 halves the chroma planes), `crf` as in x264.

    `frames` are spread evenly over the clip. With `instants`, they are drawn from this many even instants instead.
    """

    seed: Annotated[int, Field(ge=0)]
    scenes: Count
    cameras: Count
    frames: Count
    resolution: Annotated[int, Field(ge=2, multiple_of=2)]
    layout: Literal["ring", "jittered"]
    motions: Annotated[tuple[Motion, ...], Field(min_length=1)]
    crf: Annotated[int, Field(ge=0, le=51)]
    instants: Annotated[int, Field(ge=2)] | None = None


def read_settings(path: Path, overrides: dict[str, Any]) -> Settings:
    """The section `render` of `path`, overridden by the values in `overrides` that are not None.

    Groups of motions are expanded.

    Raises `InputError` naming the file, the key and what was expected.
    """
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: expected a params file: {error.strerror}") from error
    except YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    section = content.get(SECTION) if isinstance(content, dict) else None
    if not isinstance(section, dict):
        raise InputError(f"{path}: {SECTION}: expected a section of this name")
    values = section | {name: value for name, value in overrides.items() if value is not None}
    if isinstance(values.get("motions"), list):
        values["motions"] = expand_groups(values["motions"])
    try:
        # Through JSON, because strict mode then accepts a list as a tuple.
        settings = TypeAdapter(Settings).validate_json(json.dumps(values))
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in (SECTION, *fault["loc"]))
        raise InputError(f"{path}: {place}: {fault['msg']}, got {fault['input']!r}") from error
    if settings.instants is not None and not 2 <= settings.frames <= settings.instants:
        expected = f"expected from 2 to {settings.instants}, the instants that they are drawn from"
        raise InputError(f"{path}: {SECTION}.frames: {expected}, got {settings.frames}")
    return settings


def claim_folder(out: Path, settings: Settings) -> None:
    """Mark `out` as the folder of these settings, so that scenes of other settings never count as finished.

    Only the number of scenes may differ between runs: the first ones stay the same.
    """
    out.mkdir(parents=True, exist_ok=True)
    kept = out / KEPT_FILE
    wanted = asdict(settings) | {"motions": list(settings.motions)}
    del wanted["scenes"]
    if settings.instants is None:
        del wanted["instants"]
    if kept.exists():
        found = json.loads(kept.read_text(encoding="utf-8"))
        for name, value in wanted.items():
            if found.get(name) != value:
                raise InputError(
                    f"{kept}: {name}: expected {value!r}, found {found.get(name)!r}; choose another folder"
                )
        return
    if any(path.is_dir() and not path.name.startswith(".") for path in out.iterdir()):
        raise InputError(f"{kept}: expected this file beside the scenes; choose an empty folder")
    unfinished = kept.with_suffix(".tmp")
    unfinished.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(kept)
