"""The command that restarts a training under `accelerate launch`."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from fourdistill.errors import InputError
from fourdistill.training.runtime import launch
from fourdistill.training.runtime.launch import status_of
from fourdistill.training.runtime.micro_batches import MicroBatches
from fourdistill.training.runtime.preemption import PREEMPTED
from fourdistill.training.runtime.seeds import step_generator

CONFIGS = Path(__file__).parents[2] / "configs" / "accelerate"
ONE, TWO = f"--config_file {CONFIGS}/one_gpu.yaml --cpu", str(CONFIGS / "two_cpu_processes.yaml")
TRAINING = """
import json, os, signal, sys, time
from pathlib import Path

folder, launcher = Path(sys.argv[1]), sys.argv[2]
if "ACCELERATE_MIXED_PRECISION" not in os.environ:
    from fourdistill.training.runtime.launch import launch
    launch(launcher, folder / "report.json")
    sys.exit()
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
rank = os.environ.get("RANK", "0")
(folder / f"started-{rank}").touch()
while not told:
    if (folder / "bad").is_file():
        sys.exit(2)
    time.sleep(0.05)
time.sleep(1)  # the step, and the checkpoint
(folder / "report.json").write_text(json.dumps({"status": "preempted"}))
(folder / f"saved-{rank}").touch()
sys.exit(75)
"""


@pytest.fixture(autouse=True)
def program(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pipeline/train.py", "--params", "p.yaml"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)


def test_a_config_file_or_arguments(tmp_path):
    config = tmp_path / "two.yaml"
    config.touch()
    program = ["pipeline/train.py", "--params", "p.yaml"]
    launcher = [sys.executable, "-m", "fourdistill.training.runtime.launch"]
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
    for code, status in (("raise SystemExit(2)", 2), ("import os; os.kill(os.getpid(), 9)", 1)):
        with pytest.raises(SystemExit) as failed:
            program(code)
        assert failed.value.code == status
    # 1 and 2: the other processes, terminated because of the failed one, reported preemption.
    for code, status in ((75, 75), (143, 75), (1, 1), (2, 2)):
        with pytest.raises(SystemExit) as ended:
            program(f"open({str(report)!r}, 'w').write('{{\"status\": \"preempted\"}}'); raise SystemExit({code})")
        assert ended.value.code == status


@pytest.fixture
def training(tmp_path):
    """Start TRAINING under a launcher, in a separate process group; returns when all its processes train."""
    started = []

    def start(launcher, num_processes):
        (tmp_path / "training.py").write_text(TRAINING)
        command = [sys.executable, str(tmp_path / "training.py"), str(tmp_path), launcher]
        started.append(subprocess.Popen(command, start_new_session=True))
        deadline = time.monotonic() + 120
        while len(list(tmp_path.glob("started-*"))) < num_processes:
            assert started[0].poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        return started[0]

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize(
    ("launcher", "num_processes", "send"),
    [(ONE, 1, os.kill), (ONE, 1, os.killpg), (TWO, 2, os.killpg)],
    ids=["one", "one and its group", "two and their group"],
)
def test_told_to_go_it_ends_when_all_have_saved(training, tmp_path, launcher, num_processes, send):
    process = training(launcher, num_processes)
    send(process.pid, signal.SIGTERM)
    assert process.wait(60) == 75
    assert len(list(tmp_path.glob("saved-*"))) == num_processes


@pytest.mark.parametrize(("launcher", "num_processes"), [(ONE, 1), (TWO, 2)], ids=["one", "two"])
def test_bad_input_ends_with_the_status_of_bad_input(training, tmp_path, launcher, num_processes):
    process = training(launcher, num_processes)
    (tmp_path / "bad").touch()
    assert process.wait(60) == 2


def test_every_part_of_a_batch_is_somebodys():
    divided = [MicroBatches.divide(24, 6, 3, process) for process in range(3)]
    assert sorted(part for each in divided for part in each.mine) == list(range(6))
    assert {each.size for each in divided} == {4}
    draws = [step_generator(0, step, part, each.total) for each in divided for part in each.mine for step in range(4)]
    assert len({generator.initial_seed() for generator in draws}) == 24
    with pytest.raises(InputError, match="micro_batches: expected a multiple of the 2 processes, got 3"):
        MicroBatches.divide(24, 3, 2, 0)


def test_the_status_is_that_of_the_process_that_failed_by_itself():
    def failed(*codes):
        failures = {rank: ProcessFailure(rank, 100 + rank, code, "") for rank, code in enumerate(codes)}
        for failure in failures.values():
            failure.timestamp = 7  # torch counts whole seconds
        return ChildFailedError("train", failures)

    assert (
        status_of(failed(PREEMPTED, 2)) == status_of(failed(-signal.SIGTERM, 2)) == status_of(failed(2, PREEMPTED)) == 2
    )
    assert status_of(failed(PREEMPTED, PREEMPTED)) == PREEMPTED
    assert status_of(failed(-signal.SIGKILL)) == 1
