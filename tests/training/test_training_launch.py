"""The command that starts a training anew under `accelerate launch`."""

import sys

import pytest

from fourdistill.errors import InputError
from fourdistill.training import launch
from fourdistill.training.parts import Parts


@pytest.fixture(autouse=True)
def program(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pipeline/train.py", "--params", "p.yaml"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)


def test_a_config_file_or_arguments(tmp_path):
    config = tmp_path / "two.yaml"
    config.touch()
    program = ["pipeline/train.py", "--params", "p.yaml"]
    launcher = [sys.executable, "-m", "accelerate.commands.launch"]
    assert launch.launch_command(str(config)) == [*launcher, "--config_file", str(config), *program]
    assert launch.launch_command("--num_processes 1 --cpu") == [*launcher, "--num_processes", "1", "--cpu", *program]


def test_a_missing_config_file():
    with pytest.raises(InputError, match=r"train.launcher: configs/none.yaml: expected a config file"):
        launch.launch_command("configs/none.yaml")


def test_the_statuses_of_what_was_launched(monkeypatch, tmp_path):
    report = tmp_path / "train_report.json"

    def program(code):
        monkeypatch.setattr(launch, "launch_command", lambda launcher: [sys.executable, "-c", code])
        launch.launch("", report)

    program("pass")
    with pytest.raises(SystemExit) as failed:
        program("raise SystemExit(2)")
    assert failed.value.code == 1
    with pytest.raises(SystemExit) as preempted:
        program(f"open({str(report)!r}, 'w').write('{{\"status\": \"preempted\"}}'); raise SystemExit(1)")
    assert preempted.value.code == 75


def test_every_part_of_a_batch_is_somebodys():
    divided = [Parts.divide(24, 6, 3, process) for process in range(3)]
    assert sorted(part for each in divided for part in each.mine) == list(range(6))
    assert {each.size for each in divided} == {4}
    seeds = {each.draw_seed(0, step, part) for each in divided for part in each.mine for step in range(4)}
    assert len(seeds) == 24
    with pytest.raises(InputError, match="micro_batches: expected a multiple of the 2 processes, got 3"):
        Parts.divide(24, 3, 2, 0)
