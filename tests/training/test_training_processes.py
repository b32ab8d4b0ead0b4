"""Trainings in real processes: several in parallel, killed at any moment, or preempted."""

import json
import random
import signal
from typing import Any

import numpy as np
import pytest
from PIL import Image
from processes import Harm, join, losses, run, start
from toy_shards import noise_target, toy_pair, write_toy_shards

from fourdistill.errors import InputError
from fourdistill.training.runtime.sharding import read_sharding

STEPS = 12


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_toy_shards(
        tmp_path_factory.mktemp("toy") / "shards", noise_target, {"train": 48, "val": 12}, num_tars=2
    )


@pytest.fixture(scope="module")
def unbroken(tiny_base, shards, tmp_path_factory):
    """An uninterrupted run of two micro-batches on one process."""
    folder = tmp_path_factory.mktemp("unbroken")
    run(tiny_base, shards, folder, micro_batches=2, max_steps=STEPS)
    return folder


@pytest.fixture(scope="module")
def straight(unbroken):
    """Losses of the uninterrupted run."""
    return losses(unbroken)


@pytest.fixture(scope="module")
def touches(unbroken):
    """Number of file operations of the uninterrupted run."""
    return int((unbroken / "touched").read_text())


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
        return toy_pair(3 * (index // 2) if index % 2 == 0 else index, rng)  # the first tar has only time pairs

    shards = write_toy_shards(tmp_path / "s", noise_target, {"train": 16, "val": 4}, views_come_late, num_tars=2)
    run(
        tiny_base, shards, tmp_path, world_size=2, mapper_input="displacement", loss={"kind": "ddpm"}
    )  # views have a network
    assert len(losses(tmp_path)) == 4


def test_killed_three_times_it_makes_the_same_steps(tiny_base, shards, straight, touches, tmp_path):
    often: dict[str, Any] = {"micro_batches": 2, "max_steps": STEPS, "checkpoints": {"every": 2}}
    rng = random.Random(0)
    for _ in range(3):
        harm = Harm(signal.SIGKILL, rng.randrange(touches // 6, touches // 3))
        assert join(start(tiny_base, shards, tmp_path, harm=harm, **often)) == [-signal.SIGKILL]
        assert not (tmp_path / "adapter").exists()
    run(tiny_base, shards, tmp_path, **often)
    assert losses(tmp_path) == straight
    assert report(tmp_path)["restarts"] >= 1
    assert not (tmp_path / "checkpoint").exists()


def test_told_to_go_two_processes_save_and_one_goes_on(tiny_base, shards, straight, touches, tmp_path):
    harm = Harm(signal.SIGTERM, touches // 2)
    group = start(tiny_base, shards, tmp_path, world_size=2, harm=harm, max_steps=STEPS)
    assert join(group) == [75, 75]  # one of them got the signal
    assert report(tmp_path)["status"] == "preempted"
    done = losses(tmp_path)[-1][0]
    assert 1 < done < STEPS
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == [f"step-{done:08d}"]
    run(tiny_base, shards, tmp_path, micro_batches=2, max_steps=STEPS)
    assert [loss for _, loss in losses(tmp_path)] == pytest.approx([loss for _, loss in straight], rel=1e-5)
    assert report(tmp_path)["restarts"] == 1


SHARDED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "BasicTransformerBlock,ResnetBlock2D",
}


def test_a_sharded_base_makes_the_steps_and_the_samples_of_a_whole_one(tiny_base, shards, unbroken, tmp_path):
    run(tiny_base, shards, tmp_path, world_size=2, environment=SHARDED, max_steps=STEPS, gradient_checkpointing=True)
    assert [loss for _, loss in losses(tmp_path)] == pytest.approx([loss for _, loss in losses(unbroken)], rel=1e-5)
    mine, whole = (Image.open(each / "live" / "plots" / "images" / "samples.png") for each in (tmp_path, unbroken))
    np.testing.assert_allclose(np.asarray(mine, int), np.asarray(whole, int), atol=2)
    whole_bytes = int((unbroken / "held-0").read_text())
    for rank in range(2):
        assert int((tmp_path / f"held-{rank}").read_text()) < 0.6 * whole_bytes


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("FSDP_VERSION", "1", "accelerate: fsdp_version: expected 2, got 1"),
        (
            "FSDP_AUTO_WRAP_POLICY",
            "SIZE_BASED_WRAP",
            "accelerate: fsdp_auto_wrap_policy: expected TRANSFORMER_BASED_WRAP",
        ),
        ("FSDP_AUTO_WRAP_POLICY", "SOME", "accelerate: fsdp_config: Invalid auto wrap policy"),
        ("FSDP_OFFLOAD_PARAMS", "true", "accelerate: fsdp_offload_params: expected false"),
        ("FSDP_ACTIVATION_CHECKPOINTING", "true", "accelerate: fsdp_activation_checkpointing: expected false"),
    ],
)
def test_options_of_sharding_that_are_not_followed(option, value, message, monkeypatch):
    for name, each in (SHARDED | {option: value}).items():
        monkeypatch.setenv(name, each)
    with pytest.raises(InputError, match=message):
        read_sharding()
