"""Folders and parameters of the base pipeline."""

import hashlib
import os
from pathlib import Path
from typing import Any

import yaml

from fourdistill.models.base.precision import default_device

ROOT = Path(__file__).resolve().parents[2]
WORK = Path(os.environ.get("FOURDISTILL_BASE_WORK", ROOT / "data" / "base" / "work"))
MINI = WORK / "mini"
PUBLISHED = ROOT / "data" / "base" / "mini"


def load_section(name: str) -> Any:
    """One section of `recipes/mini/params.yaml`; where there is a GPU, with the values of `gpu`."""
    params = yaml.safe_load((Path(__file__).parent / "params.yaml").read_text())
    if default_device().type == "cuda" and name in params["gpu"]:
        return params[name] | params["gpu"][name]
    return params[name]


def digest(*paths: Path) -> str:
    """SHA-256 over the bytes of files, which identifies the data of a saved training."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(2**24):
                total.update(block)
    return total.hexdigest()
