import dataclasses
import json

import pytest
import torch
from accelerate.state import AcceleratorState
from toy_shards import noise_target, toy_pair, write_toy_shards

from fourdistill.errors import InputError
from fourdistill.models.prior import DisplacementPrior
from fourdistill.training import prior as module
from fourdistill.training.prior import PriorSettings, train_prior

SETTINGS = PriorSettings(
    num_components=8, batch_size=16, max_steps=6, warmup_steps=2, log_every=2, validate_every=3, checkpoint_every=3,
)  # fmt: skip
FORM = {"width": 32, "depth": 1, "num_frequencies": 8, "dropout": 0.2}


@pytest.fixture(autouse=True)
def own_accelerator_state():
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_toy_shards(tmp_path_factory.mktemp("toy") / "shards", noise_target)


def run(shards, folder, settings=SETTINGS, form=FORM):
    return train_prior(
        shards,
        settings,
        form,
        prior_folder=folder / "prior",
        live_folder=folder / "live",
        checkpoint_folder=folder / "checkpoint",
    )


def weights(folder):
    return DisplacementPrior.load(folder / "prior").state_dict()


def assert_same(first, second):
    assert all(torch.equal(value, second[name]) for name, value in first.items())


class Killed(Exception):
    pass


@pytest.mark.parametrize("killed_at", [2, 4])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(shards, tmp_path, monkeypatch, killed_at):
    validation = run(shards, tmp_path / "straight")
    original = module.PriorRun.loss

    def loss(self, step):
        if step == killed_at:
            raise Killed
        return original(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(module.PriorRun, "loss", loss)
        with pytest.raises(Killed):
            run(shards, tmp_path / "killed")
    assert not (tmp_path / "killed" / "prior").exists()
    assert run(shards, tmp_path / "killed") == validation
    assert_same(weights(tmp_path / "straight"), weights(tmp_path / "killed"))
    assert not (tmp_path / "killed" / "checkpoint").exists()


def test_metrics_are_logged_from_the_first_step(shards, tmp_path):
    validation = run(shards, tmp_path)
    rows = (tmp_path / "live/plots/metrics/gap.time.tsv").read_text().splitlines()
    assert [row.split("\t")[0] for row in rows] == ["step", "0", "3", "6"]
    assert {"val.loss", "val.error_over_copy", "gap.image", "gap.time", "gap.view"} == set(validation)
    assert json.loads((tmp_path / "prior/config.json").read_text())["training"]["validation"] == validation


def time_only(index, rng):
    absent = {"relative_pose": None, "delta_azimuth": None, "delta_elevation": None, "delta_radius": None}
    return toy_pair(index, rng) | absent | {"kind": "time", "normalized_gap": (-1.0, -0.5, 0.5, 1.0)[index % 4]}


def test_it_learns_what_a_displacement_does(tmp_path):
    """In the toy shards a target is the source times d: samples must come closer to it than the source is."""
    shards = write_toy_shards(tmp_path / "shards", noise_target, {"train": 512, "val": 128}, time_only, rank=4)
    settings = dataclasses.replace(SETTINGS, max_steps=400, batch_size=64, learning_rate=3e-3, validate_every=400)
    validation = run(shards, tmp_path, settings, FORM | {"width": 64, "dropout": 0.0})
    start = (tmp_path / "live/plots/metrics/gap.time.tsv").read_text().splitlines()[1].split("\t")[1]
    assert abs(float(start)) < 0.1
    assert validation["gap.time"] > 1.0 and validation["gap.image"] > 1.0
    assert validation["val.error_over_copy"] < 0.3
    assert "gap.view" not in validation


def test_without_validation_pairs_it_trains_all_the_same(tmp_path):
    shards = write_toy_shards(tmp_path / "shards", noise_target, {"train": 24})
    assert run(shards, tmp_path) == {}
    assert (tmp_path / "prior/prior.safetensors").is_file()


def test_missing_shards_are_one_clear_line(tmp_path):
    with pytest.raises(InputError, match=r"index\.json: expected the index of the shards"):
        run(tmp_path / "none", tmp_path)
