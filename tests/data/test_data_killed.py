"""Each data stage killed at three drawn moments: run again, it gives what an unbroken run gives."""

import multiprocessing
import random
import signal
from pathlib import Path
from typing import Any

import pytest
from stage_runs import OUTPUTS, STAGES, digests, run_stage, write_scenes
from touches import Touches

CONTEXT: Any = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(  # with that of tests/training/processes.py: there is one server
    [f"fourdistill.{name}" for name in ("data.frames", "data.pairs", "data.shards", "models.base", "training.loop")]
)


def work(stage: str, folder: Path, base: str, moment: int | None, count: Path) -> None:
    """Run a stage; kill -9 when it touches the files in `folder` for the `moment`-th time. Write how often it did."""
    touches = Touches(folder, moment, signal.SIGKILL)
    run_stage(stage, folder, base)
    count.write_text(str(touches.count))


def run(stage: str, folder: Path, base: Path, count: Path, moment: int | None = None) -> int:
    """The exit status of a stage in a process of its own."""
    process = CONTEXT.Process(target=work, args=(stage, folder, str(base), moment, count))
    process.start()
    process.join()
    return process.exitcode


@pytest.fixture(scope="module")
def unbroken(tiny_base, tmp_path_factory):
    """A folder with the outputs of all stages, and how often each touched files."""
    folder = tmp_path_factory.mktemp("unbroken")
    write_scenes(folder)
    touched = {}
    for stage in STAGES:
        count = tmp_path_factory.mktemp("counts") / "count"
        assert run(stage, folder, tiny_base, count) == 0
        touched[stage] = int(count.read_text())
    return folder, touched


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_stage_gives_the_same_when_run_again(unbroken, tiny_base, tmp_path, tmp_path_factory, stage):
    done, touched = unbroken
    folder, count = tmp_path / "work", tmp_path / "count"
    folder.mkdir()
    for earlier in ["raw", *(name for each in STAGES[: STAGES.index(stage)] for name in OUTPUTS[each])]:
        (folder / earlier).symlink_to(done / earlier)
    for moment in random.Random(stage).sample(range(1, touched[stage]), 3):
        assert run(stage, folder, tiny_base, count, moment) == -signal.SIGKILL
        for name in OUTPUTS[stage]:  # there is all of it, or nothing
            if (folder / name).is_dir():
                assert digests_of(folder, name) == digests_of(done, name)
    assert run(stage, folder, tiny_base, count) == 0
    assert digests(folder, stage) == digests(done, stage)
    assert not [path for path in folder.glob(".*") if path.is_dir()]


def digests_of(folder: Path, name: str) -> dict[str, str]:
    """SHA-256 of the files of one output."""
    stage = next(stage for stage in STAGES if name in OUTPUTS[stage])
    return {file: digest for file, digest in digests(folder, stage).items() if file.startswith(f"{name}/")}
