"""Wrong parameters end every stage with one line and exit status 2."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from imports import ROOT
from ruamel.yaml import YAML
from typer.testing import CliRunner

from fourdistill.errors import InputError
from fourdistill.params import load_params
from fourdistill.stage import run_stage

STAGES = sorted(path.stem for path in (ROOT / "pipeline").glob("*.py") if path.name != "__init__.py")
PARAMS = (ROOT / "params.yaml").read_text()


def write_params(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    text = PARAMS
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} is not in params.yaml once"
        text = text.replace(old, new)
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\nseed: 0", "\nsede: 0", "sede: unknown key"),
        ("\nseed: 0", "\n# seed: 0", "seed: missing"),
        ("  size: 128", "  siez: 128", "extract_frames.siez: unknown key"),
        ("  size: 128", "  size: large", 'extract_frames.size: expected a valid integer, got "large"'),
        ("  size: 128", '  size: "128"', 'extract_frames.size: expected a valid integer, got "128"'),
        ("  size: 128", "  size: 0", "extract_frames.size: expected greater than 0, got 0"),
        ("  bidirectional: true", "  bidirectional: 1", "build_pairs.bidirectional: expected a valid boolean, got 1"),
        ("\nlambda: 3.0", "\nlambda: .nan", "lambda: expected a finite number, got NaN"),
        ("\ntrain:\n", "\ntraining:\n", "training: unknown key; did you mean train?"),
        ("      - [0.45, 0.55]", "      - [0.45, 1.55]", "extract_frames.split.test_times.0.1: expected less than"),
        ("      - [0.45, 0.55]", "      - [0.55, 0.45]", "test_times.0: expected an interval whose first end is not"),
        (
            "  jobs: -1 # -1: one per core\n  max_bad",
            "  jobs: 0\n  max_bad",
            "extract_frames.jobs: expected a number of processes other than 0, got 0",
        ),
        (
            "  engine: loky # loky or ray\n  jobs: -1 # -1: one per core\n  max_bad",
            "  engine: spark\n  jobs: 1\n  max_bad",
            "extract_frames.engine: expected 'loky' or 'ray', got \"spark\"",
        ),
        (
            "  frames_table: data/frames.parquet",
            "  frames_table: s3://bucket/frames.parquet",
            "paths.frames_table: expected a local path; frames, features and shards alone may be at an address, got",
        ),
        ("  normalizer: scene", "  normalizer: frames", "displacement.normalizer: expected 'scene' or 'seconds'"),
        ("  normalizer: scene", "  normalizer: seconds", "displacement: expected max_gap_s: null for normalizer scene"),
        ("  max_gap_s: null", "  max_gap_s: 1.0", "displacement: expected max_gap_s: null for normalizer scene"),
        (
            "  micro_batches: null",
            "  micro_batches: null\n  weight_decay: 0.1",
            "train.weight_decay: unknown key; did you mean train.optimizer.weight_decay?",
        ),
        ("\nseed: 0", "\nseed: [", "not valid YAML"),
        ("\nseed: 0", "\nseed: 1\nseed: 0", "not valid YAML"),
    ],
)
def test_a_fault_is_named_by_file_and_key(tmp_path, old, new, message):
    path = write_params(tmp_path, (old, new))
    with pytest.raises(InputError) as error:
        load_params(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ") and message in text and "\n" not in text


def test_a_second_file_takes_the_place_of_single_values(tmp_path):
    over = tmp_path / "over.yaml"
    over.write_text("lambda: 0.7\nextract_frames: {size: 64, split: {test_cameras: [a, b]}}\n")
    plain, both = load_params(write_params(tmp_path)), load_params(write_params(tmp_path), over)
    assert (both.lambda_, both.extract_frames.size, both.extract_frames.split.test_cameras) == (0.7, 64, ["a", "b"])
    assert both.extract_frames.split.test_scenes == plain.extract_frames.split.test_scenes
    assert both.train == plain.train
    over.write_text("extract_frames: {siez: 64}\n")
    with pytest.raises(InputError, match=r"over\.yaml: extract_frames\.siez: unknown key"):
        load_params(write_params(tmp_path), over)


def test_other_files_are_no_params(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        load_params(tmp_path / "params.yaml")
    for content, message in ((b"- a\n- b\n", "expected a mapping"), (b"\xff\xfe\x00", "UTF-8"), (b"", "NoneType")):
        (tmp_path / "params.yaml").write_bytes(content)
        with pytest.raises(InputError, match=message):
            load_params(tmp_path / "params.yaml")


def test_numbers_are_read_as_dvc_reads_them(tmp_path):
    path = write_params(tmp_path, ("\nlambda: 3.0", "\nlambda: 3e-1"))
    assert load_params(path).lambda_ == YAML(typ="safe").load(path.read_text())["lambda"] == 0.3


def test_parameters_cannot_be_changed_by_accident():
    params = load_params(ROOT / "params.yaml")
    with pytest.raises(AttributeError):
        params.seed = 1  # type: ignore[misc]


def run(stage: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "pipeline" / f"{stage}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)


@pytest.mark.parametrize(
    ("stage", "old", "new", "message"),
    [
        ("extract_frames", "  size: 128", "  siez: 128", "extract_frames.siez: unknown key"),
        ("build_pairs", "    val: 512", "    val: many", "build_pairs.num_pairs.val: expected a valid integer"),
        ("write_shards", "\nwrite_shards:\n", "\nshards:\n", "shards: unknown key"),
    ],
)
def test_a_stage_ends_with_one_line_and_status_2(tmp_path, stage, old, new, message):
    path = write_params(tmp_path, (old, new))
    result = run(stage, "--params", str(path))
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith(f"error: {path}: {message}") and result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize("stage", STAGES)
def test_every_script_is_a_command(stage, monkeypatch):
    """Run in this process, because six interpreters that import torch would take half a minute."""
    import importlib.util

    import typer

    spec = importlib.util.spec_from_file_location(f"pipeline_{stage}", ROOT / "pipeline" / f"{stage}.py")
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    outputs = []
    monkeypatch.setattr(typer.Typer, "__call__", lambda app: outputs.append(app))
    script.run_stage(script.main)
    runner = CliRunner()
    helped = runner.invoke(outputs[0], ["--help"])
    assert helped.exit_code == 0 and "--params" in helped.output
    dry = runner.invoke(outputs[0], ["--dry-run", "--params", str(ROOT / "params.yaml")])
    assert dry.exit_code == 0 and '"lambda"' in dry.output


def test_what_the_machine_refuses_a_stage_is_one_line_and_a_fault_of_the_program_a_traceback(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["stage", "--params", str(ROOT / "params.yaml")])

    def full(params):
        raise OSError(errno.ENOSPC, "No space left on device", "frames.parquet")

    def faulty(params):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "ours")

    with pytest.raises(SystemExit) as caught:
        run_stage(full)
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: frames.parquet: No space left on device\n"
    with pytest.raises(FileNotFoundError):
        run_stage(faulty)
