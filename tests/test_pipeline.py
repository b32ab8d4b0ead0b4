"""`dvc.yaml`, the scripts and `params.yaml` are consistent, and every stage depends on all the code that it runs."""

import subprocess
import sys
from pathlib import Path

import networkx as nx
import pytest
from dvc.repo import Repo
from imports import ROOT, transitive_imports
from ruamel.yaml import YAML

from fourdistill.params import load_params

STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
SCRIPTS = [path for path in (ROOT / "pipeline").glob("*.py") if path.name != "__init__.py"]
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
SHARED = {"lambda", "seed", "paths", "sources", "displacement", "augmentations"}  # sections not owned by a stage


def code_deps(stage: str) -> list[Path]:
    return [Path(dep) for dep in STAGES[stage]["deps"] if not dep.startswith("${")]


def covers(dep: Path, file: Path) -> bool:
    return dep == file or dep in file.parents


def test_params_parse():
    params = load_params(ROOT / "params.yaml")
    assert params.lambda_ == PARAMS["lambda"]


def test_stage_script_and_section_share_a_name():
    assert set(STAGES) == set(PARAMS) - SHARED == {path.stem for path in SCRIPTS}
    for name, stage in STAGES.items():
        assert stage["cmd"] == f"python -m pipeline.{name}"
        assert name in stage["params"]


@pytest.mark.parametrize("stage", STAGES)
def test_deps_cover_what_the_script_imports(stage):
    script = Path("pipeline") / f"{stage}.py"
    deps = code_deps(stage)
    missing = [str(f) for f in sorted({script} | transitive_imports(script)) if not any(covers(d, f) for d in deps)]
    assert not missing, f"dvc.yaml: {stage}: deps lack {missing}"


@pytest.mark.parametrize("stage", STAGES)
def test_deps_name_little_that_the_script_does_not_run(stage):
    """The stage runs every listed file, and at least half of a listed folder, so that `dvc.yaml` can list folders."""
    script = Path("pipeline") / f"{stage}.py"
    used = {script} | transitive_imports(script)
    for dep in code_deps(stage):
        path = ROOT / dep
        files = [path] if path.is_file() else [file for file in path.rglob("*.py") if file.name != "__init__.py"]
        run = [file for file in files if file.relative_to(ROOT) in used]
        found = f"the script runs {len(run)} of {len(files)} modules"
        assert run and 2 * len(run) >= len(files), f"dvc.yaml: {stage}: {dep}: {found}"


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_depends_on_the_settings_of_all(stage):
    """Or a new key of one stage would run all of them again; `stage.py` loads them by name instead."""
    whole = {Path("fourdistill/params.py")}
    assert not whole & transitive_imports(Path("pipeline") / f"{stage}.py")
    assert not [dep for dep in code_deps(stage) for file in whole if covers(dep, file)]


def test_lambda_touches_training_alone():
    assert [name for name, stage in STAGES.items() if "lambda" in stage["params"]] == ["train"]


def test_every_path_that_a_stage_uses_is_a_parameter():
    text = (ROOT / "dvc.yaml").read_text()
    for name, path in PARAMS["paths"].items():
        assert f"${{paths.{name}}}" in text, f"dvc.yaml does not use paths.{name}"
        assert f"- {path}\n" not in text, f"dvc.yaml repeats paths.{name}"


def test_scripts_are_thin():
    for script in SCRIPTS:
        assert len(script.read_text().splitlines()) <= 80, f"{script.name}: move the work into the package"


def test_nothing_but_the_stages_leads_to_the_results():
    """`dvc repro` follows outputs of other dvc.yaml files, but must not render scenes or train the base."""
    with Repo(str(ROOT)) as repo:
        graph = repo.index.graph
        own = {node for node in graph if Path(node.path) == ROOT / "dvc.yaml"}
        reached = {upstream for node in own for upstream in nx.descendants(graph, node)}
    assert {node.name for node in own} == set(STAGES)
    assert reached <= own, f"dvc repro would also run {[node.addressing for node in reached - own]}"


AT_TORCH = """
import os, sys
class Watch:
    def find_spec(self, name, *_):
        if name == "torch":
            print("threads that wait:", os.environ.get("OMP_WAIT_POLICY"))
            sys.exit()
sys.meta_path.insert(0, Watch())
import {module}
"""


@pytest.mark.parametrize("module", ["pipeline.train", "pipeline.evaluate", "fourdistill.inference.pipeline"])
def test_threads_that_wait_sleep_before_torch_is_loaded(module):
    command = [sys.executable, "-c", AT_TORCH.format(module=module)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "threads that wait: passive\n"
