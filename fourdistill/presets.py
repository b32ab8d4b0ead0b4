"""Presets: files of values that are written into `params.yaml`, where DVC sees them and `git diff` shows them."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from fourdistill.errors import InputError
from fourdistill.params import load_params
from fourdistill.storage.files import new_file

FOLDERS = ("presets", "bases")  # in configs/, beside params.yaml


def apply_preset(preset: str, params: Path) -> list[str]:
    """Write a preset's values into a params file; returns `key: value` of those that changed.

    Comments and all other values stay. `preset`: a file, or the name of one in `configs/presets` or `configs/bases`.
    Raises `InputError` if there is none, or if the result would be no valid params file; the file then stays as it is.
    """
    path = find_preset(preset, params.parent / "configs")
    load_params(params, over=path)
    yaml = YAML()  # keeps comments
    yaml.width, yaml.preserve_quotes = 120, True
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(type(None), lambda it, _: it.represent_scalar("tag:yaml.org,2002:null", "null"))
    values = yaml.load(params.read_text(encoding="utf-8"))
    changed = replace_values(values, yaml.load(path.read_text(encoding="utf-8")))
    with new_file(params) as partial, partial.open("w", encoding="utf-8") as file:
        yaml.dump(values, file)
    return changed


def find_preset(preset: str, configs: Path) -> Path:
    """The file of a preset; raises `InputError` naming those that there are."""
    if Path(preset).is_file():
        return Path(preset)
    found = {path.stem: path for folder in FOLDERS for path in sorted((configs / folder).glob("*.yaml"))}
    if preset not in found:
        raise InputError(f"preset: expected a YAML file or one of {', '.join(found) or 'none'}, got {preset!r}")
    return found[preset]


def replace_values(values: Any, over: Any, prefix: str = "") -> list[str]:
    """Replace values in place, key by key at every depth; returns `key: value` of those that changed."""
    changed: list[str] = []
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            changed += replace_values(values[key], value, f"{prefix}{key}.")
        elif values.get(key) != value:
            values[key] = value
            changed.append(f"{prefix}{key}: {'null' if value is None else value}")
    return changed
