"""Imports point one way, from what knows more to what knows less."""

import ast

import pytest
from imports import ROOT, direct_imports

# What each part may import beside itself and `errors`, lowest first; a part that is not listed may import nothing of
# ours. A name stands for the folder or module and all that is in it, but for folders that have rows of their own.
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
    "models": {"geometry"},
    "features": {"config", "models.base", "storage", "tables"},
    "pairs": {"config", "features", "frames.scenes_table", "geometry", "storage", "tables", "video"},
    "shards": {"config", "features", "geometry", "storage", "tables"},
    "training.runtime": {"models.base", "storage"},
    "teacher": {"geometry", "storage", "tables"},
    "training": {"models"},
    "training.prior": {
        "features", "geometry", "models", "pairs", "storage", "training", "training.runtime",
    },
    "training.mappers": {"models", "shards.loader", "training", "training.runtime"},
    "inference": {"geometry", "models"},
    "evaluation.protocol": {"features", "frames.scenes_table", "geometry", "pairs", "storage", "tables"},
    "evaluation.metrics": {
        "evaluation.protocol", "frames.scenes_table", "geometry", "models.base", "poses", "storage", "tables",
    },
    "evaluation.systems": {"evaluation.protocol", "evaluation.metrics", "features", "geometry", "inference", "tables"},
    "evaluation.report": {"animation", "evaluation.protocol", "evaluation.systems", "storage", "tables"},
    "evaluation": {
        "evaluation.protocol", "evaluation.metrics", "evaluation.report", "evaluation.systems",
        "geometry", "inference", "pictures", "storage", "tables",
    },
    "ip_adapter_files": {"models", "storage"},
    "demo": {"animation", "geometry", "inference", "media"},
    "commands": {
        "demo", "evaluation", "geometry", "inference", "ip_adapter_files", "media", "models", "shards", "shipped",
        "sources", "storage",
    },
    "cli": {"commands"},
    "sections": {"config"},
    "params": {"config", "features", "frames", "pairs", "poses", "sections", "shards", "sources"},
    "stage": {"progress"},
    "__init__": {"inference"},  # the names that users import, looked up when they are asked for
}  # fmt: skip
FILES = sorted(path.relative_to(ROOT) for path in (ROOT / "fourdistill").rglob("*.py"))


def part_of(module: str) -> str:
    """The row of `ARROWS` that a module's dotted name (without the package's) belongs to."""
    parts = module.split(".")
    candidates = [".".join(parts[:depth]) for depth in range(len(parts), 0, -1)]
    return next((name for name in candidates if name in ARROWS), parts[0])


def allows(part: str, imported: str) -> bool:
    """Whether a part may import a module; to allow a folder with rows of its own is to allow only the rest of it."""
    other = part_of(imported)
    allowed = ARROWS.get(part, set()) | {part, "errors"}
    inside = any(imported == name or imported.startswith(f"{name}.") for name in allowed if name not in ARROWS)
    whole = "commands" if part in ("commands", "cli") else None  # what users call may use all of a folder
    return other in allowed or inside or (whole is not None and other.split(".")[0] in allowed)


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_follow_the_arrows(file):
    part = part_of(".".join(file.with_suffix("").parts[1:]).removesuffix(".__init__"))
    for name in direct_imports(file):
        module = name.partition(".")[2]
        if not module or ((ROOT / name.replace(".", "/")).is_dir() and not _holds_code(name)):
            continue  # the package itself holds `__version__`; a folder is passed through on the way to a module
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
