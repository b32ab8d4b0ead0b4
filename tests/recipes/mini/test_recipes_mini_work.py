"""The recipe's parameters, on a processor and on a GPU."""

import sys

import pytest
import torch
from imports import ROOT
from ruamel.yaml import YAML

sys.path.insert(0, str(ROOT / "recipes" / "mini"))

import work

PARAMS = YAML(typ="safe").load((ROOT / "recipes" / "mini" / "params.yaml").read_text())


@pytest.mark.parametrize("name", sorted(PARAMS.keys() - {"gpu"}))
def test_a_gpu_changes_the_listed_values_only(monkeypatch, name):
    monkeypatch.setattr(work, "default_device", lambda: torch.device("cpu"))
    assert work.load_section(name) == PARAMS[name]
    monkeypatch.setattr(work, "default_device", lambda: torch.device("cuda"))
    changed = PARAMS["gpu"].get(name)
    assert work.load_section(name) == (PARAMS[name] | changed if changed else PARAMS[name])


def test_gpu_changes_how_long_and_in_what_batches_is_trained_only():
    """What a GPU has trained is packaged and measured on any machine, so models have the same shapes."""
    for name, section in PARAMS["gpu"].items():
        assert section.keys() <= PARAMS[name].keys(), name
    assert {key.split("_")[-1] for section in PARAMS["gpu"].values() for key in section} == {"size", "steps"}
    assert not any("crop_size" in section for section in PARAMS["gpu"].values())
