"""Imports point in one direction, from higher to lower layers."""

import ast

import pytest
from imports import ROOT, direct_imports

# What each part may import besides itself and `errors`, lowest first; a part that is not listed may import none of our
# modules. A name means the folder or module with all its content, except folders that have their own rows.
ARROWS = {
    "config": set(),
    "geometry": set(),
    "storage": set(),
    "pictures": set(),
    "progress": set(),
    "animation": set(),
    "shipped": set(),
    "scene": {"geometry"},
    "tables": {"storage"},
    "media": {"animation", "pictures", "storage"},
    "video": {"geometry", "pictures", "scene", "storage"},
    "sources": {"config", "geometry", "pictures", "scene", "storage", "video"},
    "poses": {"config", "geometry", "scene", "storage", "tables", "video"},
    "frames": {"config", "geometry", "scene", "sources", "storage", "tables", "video"},
    "models": {"config", "geometry"},
    "features": {"config", "frames.all_frames", "models.base", "models.codec", "storage", "tables"},
    "pairs": {
        "config", "features", "frames.all_frames", "frames.scenes_table", "geometry", "storage", "tables", "video",
    },
    "shards": {"config", "features", "frames.all_frames", "geometry", "models.codec", "storage", "tables"},
    "training.runtime": {"config", "models.base", "storage"},
    "teacher": {"animation", "config", "frames.scenes_table", "geometry", "storage", "tables"},
    "training": {"models"},
    "training.prior": {
        "config", "features", "geometry", "models", "pairs", "storage", "training", "training.runtime",
    },
    "training.mappers": {"config", "models", "shards.loader", "training", "training.runtime"},
    "inference": {"geometry", "models"},
    "evaluation.protocol": {"features", "frames.scenes_table", "geometry", "pairs", "storage", "tables"},
    "evaluation.metrics": {
        "evaluation.protocol", "frames.scenes_table", "geometry", "models.base", "poses", "storage", "tables",
    },
    "evaluation.systems": {"evaluation.protocol", "evaluation.metrics", "features", "geometry", "inference", "tables"},
    "evaluation.report": {"animation", "evaluation.protocol", "evaluation.systems", "storage", "tables"},
    "evaluation.settings": {"config", "models.settings"},
    "evaluation": {
        "evaluation.protocol", "evaluation.metrics", "evaluation.report", "evaluation.settings", "evaluation.systems",
        "geometry", "inference", "models.base", "pictures", "storage", "tables",
    },
    "ip_adapter_files": {"models", "storage"},
    "demo": {"animation", "geometry", "inference", "media", "models.settings"},
    "params": {
        "config", "evaluation.settings", "features", "frames", "pairs", "poses", "shards", "sources",
        "teacher.settings", "training.mappers", "training.prior",
    },
    "presets": {"params", "storage"},
    "commands": {
        "demo", "evaluation", "geometry", "inference", "ip_adapter_files", "media", "models", "presets", "shards",
        "shipped", "sources", "storage",
    },
    "cli": {"commands"},
    "stage": {"progress"},
    "__init__": {"inference"},  # names that users import, resolved on access
}  # fmt: skip
FILES = sorted(path.relative_to(ROOT) for path in (ROOT / "fourdistill").rglob("*.py"))


def part_of(module: str) -> str:
    """The row of `ARROWS` for a module's dotted name (without the package's)."""
    parts = module.split(".")
    candidates = [".".join(parts[:depth]) for depth in range(len(parts), 0, -1)]
    return next((name for name in candidates if name in ARROWS), parts[0])


def allows(part: str, imported: str) -> bool:
    """Whether a part may import a module; allowing a folder does not allow its subfolders with their own rows."""
    other = part_of(imported)
    allowed = ARROWS.get(part, set()) | {part, "errors"}
    inside = any(imported == name or imported.startswith(f"{name}.") for name in allowed if name not in ARROWS)
    whole = "commands" if part in ("commands", "cli") else None  # user-facing parts may use all of a folder
    return other in allowed or inside or (whole is not None and other.split(".")[0] in allowed)


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_follow_the_arrows(file):
    part = part_of(".".join(file.with_suffix("").parts[1:]).removesuffix(".__init__"))
    for name in direct_imports(file):
        module = name.partition(".")[2]
        if not module or ((ROOT / name.replace(".", "/")).is_dir() and not _holds_code(name)):
            continue  # the package itself, which has `__version__`, or a folder on the path to a module
        assert allows(part, module), f"{file} imports {name}; {part} may import {sorted(ARROWS.get(part, set()))}"


def _holds_code(package: str) -> bool:
    body = ast.parse((ROOT / package.replace(".", "/") / "__init__.py").read_text(encoding="utf-8")).body
    return any(isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)) for node in body)


def test_no_part_imports_what_is_above_it():
    order = list(ARROWS)
    for part, allowed in ARROWS.items():
        below = set(order[: order.index(part)])
        assert {part_of(name) for name in allowed} <= below, f"{part} may import {sorted(allowed - below)}"


def test_the_library_knows_no_script():
    for file in FILES:
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & {"pipeline", "recipes", "tests"}, file


def test_geometry_needs_numpy_alone():
    for file in FILES:
        if file.parts[1] == "geometry":
            for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    text = ast.unparse(node)
                    assert "torch" not in text and "diffusers" not in text, f"{file}: {text}"
