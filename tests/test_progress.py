import json

import pytest

from fourdistill.progress import LAST, PIPELINE, SHIPPED, describe, expect, stage_progress

STAGES = ["frames", "pairs", "train", "evaluate"]
TOOK = {"frames": 10.0, "pairs": 20.0, "train": 300.0, "evaluate": 120.0}


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    """A checkout with four stages, as the working directory."""
    monkeypatch.chdir(tmp_path)
    PIPELINE.write_text("stages:\n" + "".join(f"  {name}: {{cmd: x}}\n" for name in STAGES))
    SHIPPED.parent.mkdir()
    SHIPPED.write_text(json.dumps(TOOK))
    return tmp_path


def test_a_stage_is_counted_and_the_rest_is_added_up():
    assert describe("pairs", STAGES, TOOK, {}) == "stage 2 of 4, pairs (20 s); all after it: at most 7 min"
    assert describe("evaluate", STAGES, TOOK, {}) == "stage 4 of 4, evaluate (2 min)"


def test_a_slow_machine_is_told_longer_and_what_ran_here_counts():
    assert expect(TOOK, {"frames": 30.0}) == {"frames": 30, "pairs": 60, "train": 900, "evaluate": 360}
    assert expect(TOOK, {"frames": 10.0, "train": 5.0})["train"] == 5


def test_no_time_is_made_up():
    assert describe("pairs", STAGES, {"frames": 10.0}, {}) == "stage 2 of 4, pairs"


def test_it_speaks_under_dvc_alone_and_keeps_what_a_stage_took(pipeline, monkeypatch, capsys):
    with stage_progress():
        pass
    assert capsys.readouterr().err == "" and not LAST.exists()
    monkeypatch.setenv("DVC_STAGE", "other/dvc.yaml:pairs")
    with stage_progress():
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("DVC_STAGE", "frames")
    with stage_progress():
        pass
    assert capsys.readouterr().err.startswith("stage 1 of 4, frames (10 s)")
    assert set(json.loads(LAST.read_text())) == {"frames"}


def test_a_stage_that_failed_took_no_time(pipeline, monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "pairs")
    with pytest.raises(ZeroDivisionError), stage_progress():
        raise ZeroDivisionError
    assert not LAST.exists()


def test_a_cut_off_file_of_durations_is_none(pipeline, monkeypatch, capsys):
    LAST.parent.mkdir(parents=True)
    LAST.write_text('{"frames": 1')
    monkeypatch.setenv("DVC_STAGE", "frames")
    with stage_progress():
        pass
    assert "stage 1 of 4" in capsys.readouterr().err
