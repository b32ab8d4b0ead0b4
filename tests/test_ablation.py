"""The rows of the ablation: DVC can set their changes, the stages accept them, and the figures exist."""

import importlib.util
import re
import shutil

import pytest
from dvc.utils.hydra import apply_overrides
from imports import ROOT

from fourdistill.params import load_params

spec = importlib.util.spec_from_file_location("ablation", ROOT / "benchmarks" / "ablation.py")
assert spec is not None and spec.loader is not None
ablation = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ablation)

LISTED = ablation.read_list()
ROWS = {name: given for group in LISTED["groups"] for _, name, given in ablation.experiments(LISTED, group)}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_a_params_file_that_the_stages_accept(name, tmp_path):
    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    apply_overrides(path, ROWS[name].split())  # as `dvc exp run --set-param` does
    params, shipped = load_params(path), load_params(ROOT / "params.yaml")
    assert params.train.max_steps == LISTED["common"]["train.max_steps"]
    assert params.seed == int(name[-1])
    changes = ROWS[name].split()[len(LISTED["common"]) : -1]
    assert bool(changes) == (not name.startswith("ablation-default-"))
    if name == "ablation-the-original-code-seed0":  # a preset also names values that are the default now
        changes = [change for change in changes if change.startswith(("lambda", "train.start", "train.loss.kind"))]
    for change in changes:  # it changes something
        keys = [f"{key}_" if key == "lambda" else key for key in change.split("=")[0].split(".")]
        before, after = shipped, params
        for key in keys:
            before, after = getattr(before, key), getattr(after, key)
        assert before != after, change


def test_rows_have_names_of_their_own():
    count = sum(len(ablation.experiments(LISTED, group)) for group in LISTED["groups"])
    assert len(ROWS) == count and len(set(ROWS.values())) == count
    rows = {row for group in LISTED["groups"].values() for row in group}
    assert set(LISTED["seeds"]) <= rows


def test_the_figures_of_the_logs_are_those_of_the_condition_gaps():
    levels = "|".join(str(level) for level in load_params(ROOT / "params.yaml").train.logging.gap_timesteps)
    gaps = [name for name in LISTED["figures"].values() if name.startswith("gap.")]
    assert gaps and all(re.fullmatch(rf"gap\.(image|time|view)\.t({levels})", name) for name in gaps)


def test_a_table_has_a_column_for_each_experiment_and_a_dash_for_what_it_lacks():
    measured = {"1 word": {"a.b": "1 (0 … 2)", "c": "3"}, "8 words": {"c": "4"}}
    assert ablation.table(measured, {"first": "a.b", "second": "c"}).splitlines() == [
        "|  | 1 word | 8 words |",
        "| --- | --- | --- |",
        "| first | 1 (0 … 2) | – |",
        "| second | 3 | 4 |",
    ]
