"""Imports point one way, from what knows more to what knows less."""

import ast
from pathlib import Path

import pytest
from imports import ROOT, direct_imports

# What each part may import beside itself and `errors`; a part that is not listed may import nothing of ours.
ARROWS = {
    "__init__": {"inference"},  # the names that users import, looked up when they are asked for
    "geometry": set(),
    "models": set(),
    "pictures": set(),
    "data": {"geometry", "pictures"},
    "training": {"models", "data.loader", "data.files", "data.frame_pairs", "data.store", "data.streaming.addresses"},
    "inference": {"models", "geometry"},
    "evaluation": {
        "inference",
        "models",
        "data",
        "geometry",
        "animation",
        "pictures",
    },  # models: a base's parts span feature spaces
    "config": {"sections"},
    "sections": {"value_types"},
    "value_types": set(),
    "progress": set(),
    "stage": {"config", "progress"},
    "animation": set(),
    "media": {"animation", "data.files", "pictures"},
    "shipped": set(),
    "formats": {"models", "data.files"},
    "demo": {"inference", "geometry", "animation", "media"},
    "commands": {"demo", "evaluation", "inference", "models", "data", "media", "shipped", "formats"},  # what they need
    "cli": {"commands"},
}
FILES = sorted(path.relative_to(ROOT) for path in (ROOT / "fourdistill").rglob("*.py"))


def part_of(file: Path) -> str:
    """`fourdistill/data/pairs.py` => data; `fourdistill/config.py` => config."""
    return file.parts[1].removesuffix(".py")


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_follow_the_arrows(file):
    part = part_of(file)
    allowed = ARROWS.get(part, set()) | {part, "errors"}
    for name in direct_imports(file):
        inner = name.split(".", 1)[1] if "." in name else ""
        ancestors = {".".join(inner.split(".")[:depth]) for depth in range(1, inner.count(".") + 2)}
        # The package itself holds `__version__`; a folder on the way to an allowed module is passed through.
        passing = not inner or any(target.startswith(f"{inner}.") for target in allowed)
        assert passing or ancestors & allowed, f"{file} imports {name}; {part} may import {sorted(allowed)}"


def test_the_library_knows_no_script():
    for file in FILES:
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & {"pipeline", "tests"}, file


def test_geometry_needs_numpy_alone():
    for file in FILES:
        if part_of(file) == "geometry":
            for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    text = ast.unparse(node)
                    assert "torch" not in text and "diffusers" not in text, f"{file}: {text}"
