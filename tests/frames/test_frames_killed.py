"""Each data stage, killed at three random moments and run again, gives the same result as an uninterrupted run."""

import random
from pathlib import Path

import pytest
from stage_runs import OUTPUTS, STAGES, digests, run_stage, write_scenes
from touches import count_touches, kill


@pytest.fixture(scope="module")
def unbroken(tiny_base, tmp_path_factory):
    """A folder with the outputs of all stages, and the number of each stage's file operations."""
    folder = tmp_path_factory.mktemp("unbroken")
    write_scenes(folder)
    return folder, {stage: count_touches(folder, run_stage, stage, folder, str(tiny_base)) for stage in STAGES}


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_stage_gives_the_same_when_run_again(unbroken, tiny_base, tmp_path, stage):
    done, touched = unbroken
    folder = tmp_path
    for earlier in ["raw", *(name for each in STAGES[: STAGES.index(stage)] for name in OUTPUTS[each])]:
        (folder / earlier).symlink_to(done / earlier)
    for moment in random.Random(stage).sample(range(1, touched[stage]), 3):
        kill(folder, moment, run_stage, stage, folder, str(tiny_base))
        for name in OUTPUTS[stage]:  # it is complete, or absent
            if (folder / name).is_dir():
                assert digests_of(folder, name) == digests_of(done, name)
    run_stage(stage, folder, str(tiny_base))
    assert digests(folder, stage) == digests(done, stage)
    assert not [path for path in folder.glob(".*") if path.is_dir()]


def digests_of(folder: Path, name: str) -> dict[str, str]:
    """SHA-256 of the files of one output."""
    stage = next(stage for stage in STAGES if name in OUTPUTS[stage])
    return {file: digest for file, digest in digests(folder, stage).items() if file.startswith(f"{name}/")}
