"""Trainings that are real processes: several at once, killed at any moment, told to go."""

import json
import os
import random
import signal
import time

import pytest
from processes import join, losses, run, start, wait_for_step
from toy_shards import noise_target, toy_pair, write_toy_shards

STEPS = 12


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_toy_shards(
        tmp_path_factory.mktemp("toy") / "shards", noise_target, {"train": 48, "val": 12}, num_tars=2
    )


@pytest.fixture(scope="module")
def straight(tiny_base, shards, tmp_path_factory):
    """The losses of a run of two parts on one process that nothing disturbed."""
    folder = tmp_path_factory.mktemp("straight")
    run(tiny_base, shards, folder, micro_batches=2, max_steps=STEPS)
    return losses(folder)


def report(folder):
    return json.loads((folder / "live" / "train_report.json").read_text())


def test_two_processes_make_the_steps_of_one(tiny_base, shards, straight, tmp_path):
    run(tiny_base, shards, tmp_path, world_size=2, max_steps=STEPS)
    assert [step for step, _ in straight] == list(range(1, STEPS + 1))
    assert [loss for _, loss in losses(tmp_path)] == pytest.approx([loss for _, loss in straight], rel=1e-5)
    found = report(tmp_path)
    assert (found["processes"], found["micro_batches"], found["status"]) == (2, 2, "finished")
    assert found["samples"] == 8 * STEPS and found["samples_per_s"] > 0


def test_a_part_without_views_does_not_hold_up_the_others(tiny_base, tmp_path):
    def views_come_late(index, rng):
        return toy_pair(3 * (index // 2) if index % 2 == 0 else index, rng)  # the first tar has time pairs alone

    shards = write_toy_shards(tmp_path / "s", noise_target, {"train": 16, "val": 4}, views_come_late, num_tars=2)
    run(tiny_base, shards, tmp_path, world_size=2)
    assert len(losses(tmp_path)) == 4


def test_killed_three_times_it_makes_the_same_steps(tiny_base, shards, straight, tmp_path):
    rng = random.Random(0)
    moments = sorted(rng.sample(range(1, STEPS - 1), 3))
    for moment in moments:
        (process,) = start(tiny_base, shards, tmp_path, micro_batches=2, max_steps=STEPS, checkpoint_every=2)
        wait_for_step(tmp_path, moment)
        time.sleep(rng.uniform(0, 0.1))  # in the middle of a step, of logging, or of a checkpoint
        os.kill(process.pid, signal.SIGKILL)
        assert join([process]) == [-signal.SIGKILL]
        assert not (tmp_path / "adapter").exists()
    run(tiny_base, shards, tmp_path, micro_batches=2, max_steps=STEPS, checkpoint_every=2)
    assert losses(tmp_path) == straight
    assert report(tmp_path)["restarts"] >= 1
    assert not (tmp_path / "checkpoint").exists()


def test_told_to_go_two_processes_save_and_one_goes_on(tiny_base, shards, straight, tmp_path):
    group = start(tiny_base, shards, tmp_path, world_size=2, max_steps=STEPS)
    wait_for_step(tmp_path, 3)
    os.kill(group[1].pid, signal.SIGTERM)  # one of them is enough
    assert join(group) == [75, 75]
    assert report(tmp_path)["status"] == "preempted"
    done = losses(tmp_path)[-1][0]
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == [f"step-{done:08d}"]
    run(tiny_base, shards, tmp_path, micro_batches=2, max_steps=STEPS)
    assert [loss for _, loss in losses(tmp_path)] == pytest.approx([loss for _, loss in straight], rel=1e-5)
    assert report(tmp_path)["restarts"] == 1
