"""Presets written into a copy of `params.yaml`."""

import shutil

import pytest
from imports import ROOT
from typer.testing import CliRunner

from fourdistill.cli import app
from fourdistill.errors import InputError
from fourdistill.params import load_params
from fourdistill.presets import apply_preset

ORIGINAL = ROOT / "configs" / "presets" / "original.yaml"


@pytest.fixture
def params(tmp_path):
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    return shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")


def comments(text: str) -> list[str]:
    return sorted(line.partition("# ")[2] for line in text.splitlines() if "# " in line)


def test_a_preset_changes_its_values_and_keeps_the_others_and_all_comments(params):
    before, text = load_params(params), params.read_text()
    changed = apply_preset("original", params)
    after = load_params(params)
    assert "train.loss.kind: ddpm" in changed and "lambda: 0.2" in changed
    assert (after.lambda_, after.train.mappers.num_words, after.train.loss.dropout.bypass) == (0.2, 1, 0.0)
    assert after == load_params(ROOT / "params.yaml", over=ORIGINAL)
    assert after.train.loader == before.train.loader and after.evaluate == before.evaluate
    assert comments(params.read_text()) == comments(text)
    assert apply_preset("original", params) == []


def test_a_value_may_become_null(params, tmp_path):
    (tmp_path / "mine.yaml").write_text("displacement: {max_gap: 3}\n")
    assert apply_preset(str(tmp_path / "mine.yaml"), params) == ["displacement.max_gap: 3"]
    (tmp_path / "mine.yaml").write_text("displacement: {max_gap: null}\n")
    assert apply_preset(str(tmp_path / "mine.yaml"), params) == ["displacement.max_gap: null"]
    assert "  max_gap: null" in params.read_text()


def test_a_faulty_preset_leaves_the_file_as_it_is(params, tmp_path):
    text = params.read_text()
    with pytest.raises(InputError, match=r"^preset: expected a YAML file or one of .*original.*, got 'best'$"):
        apply_preset("best", params)
    (tmp_path / "mine.yaml").write_text("train: {max_stepz: 3}\n")
    with pytest.raises(InputError, match=r"mine\.yaml: train\.max_stepz: unknown key"):
        apply_preset(str(tmp_path / "mine.yaml"), params)
    assert params.read_text() == text


def test_the_command_says_what_changed(params):
    done = CliRunner().invoke(app, ["preset", "original", "--params", str(params)])
    assert done.exit_code == 0 and "original: train.start: scratch" in done.output
    again = CliRunner().invoke(app, ["preset", "original", "--params", str(params)])
    assert again.output == "original: nothing changed\n"
    assert CliRunner().invoke(app, ["preset", "best", "--params", str(params)]).exit_code == 2
