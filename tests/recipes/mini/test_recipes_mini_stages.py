"""The base's own `dvc.yaml` lists every module that its stages import."""

import ast
from pathlib import Path

import pytest
from ruamel.yaml import YAML

BASE = Path(__file__).resolve().parents[3] / "recipes" / "mini"
STAGES = YAML(typ="safe").load((BASE / "dvc.yaml").read_text())["stages"]


def siblings(script: str) -> set[str]:
    """The script and those in its folder that it imports, directly or indirectly."""
    seen, waiting = set(), [script]
    while waiting:
        name = waiting.pop()
        seen.add(name)
        for node in ast.walk(ast.parse((BASE / name).read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            waiting += [f"{n}.py" for n in names if (BASE / f"{n}.py").exists() and f"{n}.py" not in seen]
    return seen


@pytest.mark.parametrize("stage", [name for name in STAGES if name != "render"])
def test_deps_are_what_the_script_imports(stage):
    script = STAGES[stage]["cmd"].split()[1]
    assert {dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")} == siblings(script)


def test_the_adapters_recipe_lists_what_tuning_imports():
    stages = YAML(typ="safe").load((BASE.parent / "mini_adapter" / "dvc.yaml").read_text())["stages"]
    deps = {dep for dep in stages["tune_unet"]["deps"] if dep.endswith(".py")}
    assert deps == {f"recipes/mini/{name}" for name in siblings("tune_unet.py")}
