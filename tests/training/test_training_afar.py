"""Trainings with shards and checkpoints on a real S3 server, and with broken shards."""

import json
import shutil

import fsspec
import pytest
import torch
from dying import Killed, die_at
from s3_server import BUCKET, credentials, running_s3
from stage_settings import changed, train_settings
from tiny_adapters import start_tiny_adapter
from toy_shards import noise_target, write_toy_shards

from fourdistill.models.base.model import load_base
from fourdistill.shards.publish import publish_shards
from fourdistill.training.mappers.task import MapperTask
from fourdistill.training.mappers.train import train
from fourdistill.training.runtime.remote import RemoteCheckpoints

pytest.importorskip("s3fs", reason="the extra s3 is not installed")
NUM_TARS, PER_TAR = 6, 4
SETTINGS = train_settings(
    batch_size=4, max_steps=12, learning_rate=1e-3, warmup_steps=2, timestep_bias=0.0, validate_every=6,
    sample_every=100, num_val_pairs=4, gap_timesteps=[900], num_workers=1, max_bad_fraction=0.35, shuffle_buffer=8,
    logging={"every": 2}, checkpoints={"every": 100, "keep": 1},
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(str(tiny_base))


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    counts = {"train": NUM_TARS * PER_TAR, "val": NUM_TARS}
    return write_toy_shards(tmp_path_factory.mktemp("toy") / "shards", noise_target, counts, num_tars=NUM_TARS)


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """The file system of a server."""
    with running_s3(tmp_path_factory.mktemp("weed")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in credentials(server.endpoint).items():
            patch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        filesystem = fsspec.filesystem("s3")
        filesystem.mkdir(BUCKET)
        yield filesystem
        fsspec.get_filesystem_class("s3").clear_instance_cache()


def run(shards, base, folder, settings=SETTINGS, **kwargs):
    adapter = start_tiny_adapter(base)
    folders = {name: folder / name.removesuffix("_folder") for name in ("adapter_folder", "live_folder")}
    kwargs = {"checkpoint_folder": folder / "checkpoint"} | folders | kwargs
    train(shards, base, adapter, settings, seed=0, **kwargs)
    return adapter.state_dict()


def report(folder):
    return json.loads((folder / "live" / "train_report.json").read_text())


def assert_same(first, second):
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.fixture(scope="module")
def straight(shards, base, tmp_path_factory):
    """The weights after training from the local folder."""
    return run(shards, base, tmp_path_factory.mktemp("straight"))


def test_shards_on_s3_train_the_same_weights(shards, base, straight, s3, tmp_path):
    address = f"s3://{BUCKET}/toy"
    publish_shards(shards, address)
    assert_same(straight, run(address, base, tmp_path))
    found = report(tmp_path)
    assert found["status"] == "finished" and found["data"]["shards_broken"] == 0
    assert found["data"]["samples_read"] >= SETTINGS.max_steps * SETTINGS.batch_size
    assert (
        found["validation"]["samples_read"] >= SETTINGS.logging.num_val_pairs
        and not found["validation"]["shards_broken"]
    )


@pytest.mark.parametrize("fault", ["missing", "cut", "undecodable"])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_training_finishes_without_one_of_its_shards_and_counts_it(shards, base, tmp_path, fault, num_workers):
    shutil.copytree(shards, tmp_path / "shards")
    bad = tmp_path / "shards" / "train-000002.tar"
    content = bad.read_bytes()
    if fault == "missing":
        bad.unlink()
    elif fault == "cut":
        bad.write_bytes(content[:1000])
    else:
        bad.write_bytes(content.replace(b"\x93NUMPY", b"\x93NUMBY"))
    settings = changed(SETTINGS, num_workers=num_workers)
    weights = run(tmp_path / "shards", base, tmp_path, settings)
    assert all(value.isfinite().all() for value in weights.values())
    found = report(tmp_path)
    assert (found["status"], found["steps"]) == ("finished", SETTINGS.max_steps)
    data, logged = found["data"], json.loads((tmp_path / "live" / "metrics.json").read_text())
    times_broken = data["shards_broken"] if fault != "undecodable" else data["samples_undecodable"] / PER_TAR
    assert times_broken >= 2  # it is tried in every epoch, and twelve steps are more than two epochs
    lost = "samples_undecodable" if fault == "undecodable" else "samples_missing"
    assert data[lost] == times_broken * PER_TAR == logged[f"train.{lost}"]
    assert data["shards_lost"] == pytest.approx(times_broken)
    assert list(data["samples_skipped_by_shard"]) == [str(bad)]
    assert (tmp_path / "adapter").is_dir()


def test_checkpoints_on_s3_are_pruned_and_lead_another_machine_to_the_same_weights(
    shards, base, straight, s3, tmp_path, monkeypatch
):
    address = f"s3://{BUCKET}/checkpoints"
    often = changed(SETTINGS, checkpoints={"every": 2, "keep": 2, "address": address})
    with monkeypatch.context() as patch:
        die_at(patch, 9)
        with pytest.raises(Killed):
            run(shards, base, tmp_path / "first", often)
    s3.invalidate_cache()
    (run_folder,) = s3.ls(f"{BUCKET}/checkpoints", detail=False)
    assert {path.removeprefix(f"{run_folder}/").split("/")[0] for path in s3.find(run_folder)} == {
        "step-00000006", "step-00000008"
    }  # fmt: skip
    fetched, steps, get, loss = [], [], RemoteCheckpoints.get, MapperTask.loss
    monkeypatch.setattr(RemoteCheckpoints, "get", lambda *args: (fetched.append(args[1]), get(*args))[1])
    monkeypatch.setattr(MapperTask, "loss", lambda *args: (steps.append(args[2]), loss(*args))[1])
    assert_same(straight, run(shards, base, tmp_path / "second", often))
    assert fetched == ["step-00000008"] and steps == [8, 9, 10, 11]
    found = report(tmp_path / "second")
    assert (found["status"], found["restarts"], found["steps"]) == ("finished", 1, SETTINGS.max_steps)
    losses = (tmp_path / "second/live/plots/metrics/train.loss.tsv").read_text().splitlines()
    assert [row.split("\t")[0] for row in losses] == ["step", "2", "4", "6", "8", "10", "12"]
    s3.invalidate_cache()
    assert not [path for path in s3.find(run_folder) if "step-" in path]  # the result has been saved
