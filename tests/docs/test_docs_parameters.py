"""The reference of parameters is what its script makes, and lists every key."""

import importlib.util

import pytest
from imports import ROOT
from ruamel.yaml import YAML

spec = importlib.util.spec_from_file_location("parameters", ROOT / "docs/parameters.py")
assert spec is not None and spec.loader is not None
parameters = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parameters)

TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")


def leaves(values, prefix=""):
    for key, value in values.items():
        yield from leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]


def test_the_page_is_what_the_script_makes():
    page = (ROOT / "docs/parameters.md").read_text(encoding="utf-8")
    assert page == parameters.make_page(TEXT), "run `python docs/parameters.py`"


@pytest.mark.parametrize("section", [name for name, value in YAML(typ="safe").load(TEXT).items() if name != "sources"])
def test_every_key_has_a_row(section):
    value = YAML(typ="safe").load(TEXT)[section]
    page = parameters.make_page(TEXT)
    heading = f"## {section}\n" if isinstance(value, dict) else "## Top level\n"
    rows = page.partition(heading)[2].partition("\n## ")[0]
    keys = list(leaves(value)) if isinstance(value, dict) else [section]
    assert keys and not [key for key in keys if f"| `{key}` |" not in rows]


def test_comments_become_meanings():
    text = "# Of the file.\n\nfirst: 3e-4 # above it\npart: # what it does\n  # More of it.\n  deep: # of two\n"
    text += "    names: # a|b\n      [one, two]\n    plain: null\n"
    page = parameters.make_page(text)
    assert "| `first` | `3e-4` | above it |" in page
    assert "## part\n\nWhat it does.\n\nMore of it.\n\n| key" in page
    assert "| `deep` |  | of two |\n| `deep.names` | `[one, two]` | a\\|b |\n| `deep.plain` | `null` |  |" in page
