import dataclasses
import json
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from dying import Killed, die_at
from PIL import Image
from toy_shards import CHANNELS, SIZE, noise_target, toy_pair, write_toy_shards

from fourdistill.data.loader import ReadOptions
from fourdistill.errors import InputError
from fourdistill.models.adapter import TRAINABLE, Adapter
from fourdistill.models.adapter_config import AdapterSettings
from fourdistill.models.base import load_base
from fourdistill.models.prior import DisplacementPrior, PriorConfig
from fourdistill.training.loop import make_optimizer, train
from fourdistill.training.monitor import Monitor
from fourdistill.training.preemption import Preempted
from fourdistill.training.settings import TrainingSettings

SETTINGS = TrainingSettings(
    batch_size=4, max_steps=6, warmup_steps=2, log_every=2, validate_every=3, sample_every=100, checkpoint_every=3,
    num_val_pairs=4, gap_timesteps=(500, 900),
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(str(tiny_base))


@pytest.fixture(scope="module")
def noise_shards(tmp_path_factory):
    return write_toy_shards(tmp_path_factory.mktemp("toy") / "shards", noise_target)


def run(shards, base, folder: Path, settings=SETTINGS, form: AdapterSettings | None = None, **kwargs):
    adapter = Adapter.from_base(base, form or AdapterSettings(), torch.Generator().manual_seed(0))
    validation = train(
        shards,
        base,
        adapter,
        settings,
        adapter_folder=folder / "adapter",
        live_folder=folder / "live",
        checkpoint_folder=folder / "checkpoint",
        **kwargs,
    )
    return adapter, validation


def assert_same_weights(first, second):
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_training_changes_what_is_trainable_and_saves_an_adapter(noise_shards, base, tmp_path):
    settings = dataclasses.replace(SETTINGS, trainable=("mappers",))
    before = {name: value.clone() for name, value in base.unet.state_dict().items()}
    fresh = Adapter.from_base(base, AdapterSettings(), torch.Generator().manual_seed(0)).state_dict()
    adapter, validation = run(noise_shards, base, tmp_path, settings)
    assert all(torch.equal(value, base.unet.state_dict()[name]) for name, value in before.items())
    changed = {
        name.split(".")[0] for name, value in adapter.state_dict().items() if not torch.equal(value, fresh[name])
    }
    assert changed == {"time_mapper", "view_mapper"}
    loaded = Adapter.load(tmp_path / "adapter", base)
    assert_same_weights(adapter, loaded)
    assert loaded.config.training["steps"] == 6
    assert loaded.config.training["validation"] == validation
    assert not (tmp_path / "checkpoint").exists()


def test_metrics_are_logged_from_the_first_step(noise_shards, base, tmp_path):
    settings = dataclasses.replace(SETTINGS, log_every=4)
    run(noise_shards, base, tmp_path, settings, draw_samples=lambda base, adapter: Image.new("RGB", (8, 8)))
    plots = tmp_path / "live" / "plots"
    rows = (plots / "metrics" / "gap.image.t900.tsv").read_text().splitlines()
    assert [row.split("\t")[0] for row in rows] == ["step", "0", "3", "6"]
    losses = (plots / "metrics" / "train.loss.tsv").read_text().splitlines()
    assert [row.split("\t")[0] for row in losses] == ["step", "4", "6"]  # the last steps too
    metrics = json.loads((tmp_path / "live" / "metrics.json").read_text())
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["train.samples_per_s"] > 0 and metrics["train.lr"] == 0  # cosine ends at zero
    gaps = {name for name in metrics if name.startswith("gap.")}
    assert gaps == {f"gap.{name}.t{t}" for name in ("image", "time", "view") for t in (500, 900)}
    assert {"val.loss", "val.loss.t500", "val.loss.t900"} < set(metrics)
    assert (plots / "images" / "samples.png").is_file()


def test_told_to_go_twice_it_ends_as_if_told_once(noise_shards, base, tmp_path, monkeypatch):
    """As by a launcher that passes on what its processes have got already."""

    def told_before(method):
        def wrapped(*args):
            os.kill(os.getpid(), signal.SIGTERM)
            return method(*args)

        return wrapped

    for owner, name in ((Monitor, "after_step"), (Monitor, "close"), (Accelerator, "end_training")):
        monkeypatch.setattr(owner, name, told_before(getattr(owner, name)))
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("nobody took the signal"))
    try:
        with pytest.raises(Preempted):
            run(noise_shards, base, tmp_path)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert json.loads((tmp_path / "live" / "train_report.json").read_text())["status"] == "preempted"
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["step-00000001"]


@pytest.mark.parametrize("killed_at", [3, 5])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(noise_shards, base, tmp_path, monkeypatch, killed_at):
    straight, validation = run(noise_shards, base, tmp_path / "straight")
    with monkeypatch.context() as patch:
        die_at(patch, killed_at)
        with pytest.raises(Killed):
            run(noise_shards, base, tmp_path / "killed")
    assert [path.name for path in (tmp_path / "killed" / "checkpoint").iterdir()] == ["step-00000003"]
    assert not (tmp_path / "killed" / "adapter").exists()
    resumed, resumed_validation = run(noise_shards, base, tmp_path / "killed")
    assert_same_weights(straight, resumed)
    assert resumed_validation == validation
    logs = "live/plots/metrics/gap.image.t900.tsv"
    steps = [row.split("\t")[0] for row in (tmp_path / "killed" / logs).read_text().splitlines()]
    assert steps == ["step", "0", "3", "6"]


def test_a_checkpoint_of_other_settings_is_not_taken(noise_shards, base, tmp_path, monkeypatch):
    other = dataclasses.replace(SETTINGS, learning_rate=5e-3)
    with monkeypatch.context() as patch:
        die_at(patch, 5)
        with pytest.raises(Killed):
            run(noise_shards, base, tmp_path, other)
    fresh, _ = run(noise_shards, base, tmp_path)
    straight, _ = run(noise_shards, base, tmp_path / "straight")
    assert_same_weights(fresh, straight)


def test_a_checkpoint_of_another_order_of_the_data_is_not_taken(noise_shards, base, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        die_at(patch, 5)
        with pytest.raises(Killed):
            run(noise_shards, base, tmp_path, read_options=ReadOptions(shuffle_buffer=3))
    report = json.loads((tmp_path / "live" / "train_report.json").read_text())
    assert (report["status"], report["steps"]) == ("failed", 5)
    run(noise_shards, base, tmp_path, read_options=ReadOptions(shuffle_buffer=4))
    report = json.loads((tmp_path / "live" / "train_report.json").read_text())
    assert (report["status"], report["restarts"]) == ("finished", 0)


def test_too_much_bad_data_ends_the_training_and_is_in_the_report(base, tmp_path):
    shards = write_toy_shards(tmp_path / "shards", noise_target)
    first = next(shards.glob("train-*.tar"))
    first.write_bytes(first.read_bytes()[:2000])
    with pytest.raises(InputError, match="max_bad_fraction"):
        run(shards, base, tmp_path)
    report = json.loads((tmp_path / "live" / "train_report.json").read_text())
    assert report["status"] == "failed" and report["data"]["shards_broken"] == 1
    assert report["data"]["samples_missing"] > 0 and first.name in str(report["data"]["samples_skipped_by_shard"])


def test_what_the_parts_of_a_batch_lose_adds_up(base, tmp_path):
    shards = write_toy_shards(tmp_path / "shards", noise_target, {"train": 16, "val": 4}, num_tars=4)
    for tar in sorted(shards.glob("train-*.tar"))[:3]:
        tar.write_bytes(tar.read_bytes()[: tar.stat().st_size // 3])
    settings = dataclasses.replace(SETTINGS, micro_batches=2, log_every=1)
    options = ReadOptions(max_bad_fraction=0.5)  # each reads two of the four tars, and alone can lose no more
    with pytest.raises(
        InputError, match=r"and others: 2\.\d+ of 4 shards are lost, more than max_bad_fraction 0\.5 allows"
    ):
        run(shards, base, tmp_path, settings, read_options=options)


def test_a_half_written_checkpoint_is_ignored(noise_shards, base, tmp_path):
    (tmp_path / "checkpoint" / ".incomplete").mkdir(parents=True)
    resumed, _ = run(noise_shards, base, tmp_path)
    straight, _ = run(noise_shards, base, tmp_path / "straight")
    assert_same_weights(resumed, straight)


def test_missing_shards_are_one_clear_line(base, tmp_path):
    with pytest.raises(InputError, match=r"expected shards, found none"):
        run(tmp_path, base, tmp_path)


def time_only(index, rng):
    pair = toy_pair(index, rng)
    gap = (-1.0, -0.5, 0.5, 1.0)[index % 4]
    absent = {"relative_pose": None, "delta_azimuth": None, "delta_elevation": None, "delta_radius": None}
    return pair | absent | {"kind": "time", "normalized_gap": gap}


def gap_decides(pair, embeds):
    """Latents that only the displacement tells: a constant plane whose level is d."""
    return np.full((CHANNELS, SIZE, SIZE), 1.5 * pair["normalized_gap"])


@pytest.mark.parametrize(
    ("form", "trainable", "gap"),
    [
        (AdapterSettings(displacement_tokens=4, lora_rank=2), TRAINABLE, 0.5),
        (AdapterSettings(lambda_=1.0, bypass_norm="base"), ("mappers",), 0.04),  # a random U-Net hears little of v*
    ],
)
def test_a_tiny_model_learns_to_listen_to_the_displacement(base, tmp_path, form, trainable, gap):
    shards = write_toy_shards(tmp_path / "shards", gap_decides, {"train": 64, "val": 32}, time_only)
    settings = dataclasses.replace(
        SETTINGS, trainable=trainable, batch_size=16, max_steps=100, learning_rate=1e-2,
        image_prompt_learning_rate=3e-3, num_val_pairs=32, validate_every=1000, checkpoint_every=1000,
    )  # fmt: skip
    _, validation = run(shards, base, tmp_path, settings, form)
    start = (tmp_path / "live/plots/metrics/gap.time.t900.tsv").read_text().splitlines()[1].split("\t")[1]
    assert abs(float(start)) < 0.01  # an untrained adapter does not listen
    assert validation["gap.time.t900"] > gap
    assert "gap.view.t900" not in validation  # no pair has a camera displacement


def test_each_group_has_its_learning_rate(base):
    settings = dataclasses.replace(
        SETTINGS, trainable=TRAINABLE, learning_rate=1e-3, image_prompt_learning_rate=2e-4, lora_learning_rate=5e-4
    )  # fmt: skip
    form = AdapterSettings(displacement_tokens=2, lora_rank=2)
    adapter = Adapter.from_base(base, form, torch.Generator().manual_seed(0))
    assert [group["lr"] for group in make_optimizer(adapter, settings).param_groups] == [1e-3, 2e-4, 2e-4, 5e-4]


@pytest.mark.parametrize(
    ("form", "trainable", "message"),
    [
        ({}, ("lora",), "trainable: lora: expected a lora_rank above 0"),
        ({}, ("mappers", "displacement_tokens"), "displacement_tokens: expected a displacement_tokens above 0"),
        ({"lora_rank": 2}, ("mappers",), "train: lora_rank: expected 0, or lora in trainable"),
        ({"displacement_tokens": 2}, ("mappers",), "train: displacement_tokens: expected 0, or displacement_tokens in"),
    ],
)
def test_what_is_trained_must_exist_and_what_exists_must_be_trained(base, form, trainable, message):
    adapter = Adapter.from_base(base, AdapterSettings(**form), torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match=message):
        make_optimizer(adapter, dataclasses.replace(SETTINGS, trainable=trainable))


def test_a_prior_moves_the_image_and_is_not_trained_here(noise_shards, base, tmp_path):
    prior = DisplacementPrior(PriorConfig(17, 32, num_components=4, width=16, depth=1), torch.Generator())
    adapter = Adapter.from_base(base, AdapterSettings(), torch.Generator().manual_seed(0), prior)
    folders = {"adapter_folder": tmp_path / "a", "live_folder": tmp_path / "l", "checkpoint_folder": tmp_path / "c"}
    train(noise_shards, base, adapter, SETTINGS, **folders)
    loaded = Adapter.load(tmp_path / "a", base)
    assert loaded.config.prior == prior.config and loaded.prior is not None
    assert_same_weights(loaded.prior, prior)


def test_bf16_trains_in_float32_weights(noise_shards, base, tmp_path):
    adapter, validation = run(noise_shards, base, tmp_path, dataclasses.replace(SETTINGS, mixed_precision="bf16"))
    assert {value.dtype for value in adapter.parameters()} == {torch.float32}
    assert math.isfinite(validation["val.loss"])


@pytest.mark.parametrize("change", [{"gradient_checkpointing": True}, {"compile": "aot_eager"}, {"micro_batches": 1}])
def test_what_trades_time_for_memory_changes_no_step(noise_shards, base, tmp_path, change):
    short = dataclasses.replace(SETTINGS, max_steps=2, warmup_steps=0, lr_scheduler="constant", num_val_pairs=0)
    plain, _ = run(noise_shards, base, tmp_path / "plain", short)
    other, _ = run(noise_shards, base, tmp_path / "other", dataclasses.replace(short, **change))
    base.unet._compiled_call_impl = None  # the base is shared by these tests
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"micro_batches": 3}, "batch_size: expected a multiple of its 3 parts, got 4"),
        ({"micro_batches": 2}, "expected at least 2 shards of split train, .* found 1"),
        ({"mixed_precision": "fp16"}, "fp16: expected a GPU"),
    ],
)
def test_what_cannot_be_divided_or_computed_is_one_clear_line(noise_shards, base, tmp_path, change, line):
    with pytest.raises(InputError, match=line):
        run(noise_shards, base, tmp_path, dataclasses.replace(SETTINGS, **change))
