"""Where the base pipeline works and what its `params.yaml` says."""

import os
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
WORK = Path(os.environ.get("FOURDISTILL_BASE_WORK", ROOT / "data" / "base" / "work"))
MINI = WORK / "mini"
PUBLISHED = ROOT / "data" / "base" / "mini"


def load_section(name: str) -> Any:
    """One section of `pipeline/base/params.yaml`."""
    return yaml.safe_load((Path(__file__).parent / "params.yaml").read_text())[name]
