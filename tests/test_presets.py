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


BASES = sorted(path.stem for path in (ROOT / "configs" / "bases").glob("*.yaml"))


def test_the_preset_of_mini_is_what_params_yaml_says(params):
    assert apply_preset("mini", params) == []


@pytest.mark.parametrize("name", BASES)
def test_a_base_and_back_to_mini_leaves_no_trace(params, name):
    text = params.read_text()
    changed = apply_preset(name, params)
    assert load_params(params).paths.base == f"data/base/{name}" and bool(changed) == (name != "mini")
    apply_preset("mini", params)
    assert load_params(params) == load_params(ROOT / "params.yaml") and comments(params.read_text()) == comments(text)


@pytest.mark.parametrize("name", BASES)
def test_the_settings_of_a_base_fit_together(params, name):
    apply_preset(name, params)
    after = load_params(params)
    assert after.extract_frames.size % 64 == 0  # latents that the U-Net can halve three times
    assert after.train_prior.codec.num_embeds > after.train_prior.codec.num_components
    assert after.train.batch_size % (after.train.micro_batches or 1) == 0
    assert (after.train_prior.max_steps > 0) == (after.train_prior.start == "scratch")
    pretrained = {after.train.start, after.train_prior.start} == {"pretrained"}
    assert pretrained == (name == "mini")  # the shipped adapter fits no other base


def test_a_base_keeps_the_values_of_another_preset(params):
    apply_preset("original", params)
    apply_preset("sd15", params)
    assert (load_params(params).lambda_, load_params(params).train.loss.kind) == (0.2, "ddpm")
