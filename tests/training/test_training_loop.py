import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from dying import Killed, die_at
from PIL import Image
from stage_settings import changed, train_settings
from tiny_adapters import start_tiny_adapter, tiny_picture, tiny_prior
from toy_shards import CHANNELS, SIZE, noise_target, toy_pair, write_toy_shards

from fourdistill.errors import InputError
from fourdistill.inference.pipeline import FourDistillPipeline
from fourdistill.models.adapter import Adapter
from fourdistill.models.base.model import load_base
from fourdistill.shards.loader.batches import make_loader
from fourdistill.training.mappers.batches import move
from fourdistill.training.mappers.denoiser import Denoiser
from fourdistill.training.mappers.gaps import measure_gaps
from fourdistill.training.mappers.task import MapperTask
from fourdistill.training.mappers.train import train
from fourdistill.training.runtime.preemption import Preempted
from fourdistill.training.runtime.trainer import Trainer, make_optimizer

SETTINGS = train_settings(
    batch_size=4, max_steps=6, learning_rate=1e-3, warmup_steps=2, timestep_bias=0.0, validate_every=3,
    sample_every=100, num_val_pairs=4, gap_timesteps=[500, 900], logging={"every": 2},
    checkpoints={"every": 3, "keep": 1},
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(str(tiny_base))


@pytest.fixture(scope="module")
def noise_shards(tmp_path_factory):
    return write_toy_shards(tmp_path_factory.mktemp("toy") / "shards", noise_target)


def run(shards, base, folder: Path, settings=SETTINGS, form: dict[str, Any] | None = None, **kwargs):
    adapter = start_tiny_adapter(base, **(form or {}))
    validation = train(
        shards,
        base,
        adapter,
        settings,
        seed=0,
        adapter_folder=folder / "adapter",
        live_folder=folder / "live",
        checkpoint_folder=folder / "checkpoint",
        **kwargs,
    )
    return adapter, validation


def assert_same_weights(first, second):
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_training_changes_the_mapper_alone_and_saves_an_adapter(noise_shards, base, tmp_path):
    before = {name: value.clone() for name, value in base.unet.state_dict().items()}
    fresh = start_tiny_adapter(base).state_dict()
    adapter, validation = run(noise_shards, base, tmp_path)
    assert all(torch.equal(value, base.unet.state_dict()[name]) for name, value in before.items())
    trained = {name for name, value in adapter.state_dict().items() if not torch.equal(value, fresh[name])}
    assert trained == {name for name in fresh if name.startswith("mapper.")}
    loaded = Adapter.load(tmp_path / "adapter", base)
    assert_same_weights(adapter, loaded)
    assert loaded.config.training["steps"] == 6
    assert loaded.config.training["validation"] == validation
    assert not (tmp_path / "checkpoint").exists()


def test_metrics_are_logged_from_the_first_step(noise_shards, base, tmp_path):
    settings = changed(SETTINGS, logging={"every": 4})
    run(noise_shards, base, tmp_path, settings, draw_samples=lambda base, adapter: Image.new("RGB", (8, 8)))
    plots = tmp_path / "live" / "plots"
    rows = (plots / "metrics" / "gap.image.t900.tsv").read_text().splitlines()
    assert [row.split("\t")[0] for row in rows] == ["step", "0", "3", "6"]
    losses = (plots / "metrics" / "train.loss.tsv").read_text().splitlines()
    assert [row.split("\t")[0] for row in losses] == ["step", "4", "6"]  # including the last steps
    metrics = json.loads((tmp_path / "live" / "metrics.json").read_text())
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["train.samples_per_s"] > 0 and metrics["train.lr"] == 0  # cosine ends at zero
    gaps = {name for name in metrics if name.startswith("gap.")}
    assert gaps == {f"gap.{name}.t{t}" for name in ("image", "time", "view") for t in (500, 900)}
    assert {"val.loss", "val.loss.t500", "val.loss.t900"} < set(metrics)
    assert (plots / "images" / "samples.png").is_file()


def test_told_to_go_twice_it_ends_as_if_told_once(noise_shards, base, tmp_path, monkeypatch):
    """A launcher may forward a signal that its processes have already received."""

    def told_before(method):
        def wrapped(*args, **kwargs):
            os.kill(os.getpid(), signal.SIGTERM)
            return method(*args, **kwargs)

        return wrapped

    for owner, name in ((MapperTask, "loss"), (Trainer, "write_report"), (Accelerator, "end_training")):
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
    other = changed(SETTINGS, learning_rate=5e-3)
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
            run(noise_shards, base, tmp_path, changed(SETTINGS, shuffle_buffer=3))
    report = json.loads((tmp_path / "live" / "train_report.json").read_text())
    assert (report["status"], report["steps"]) == ("failed", 5)
    run(noise_shards, base, tmp_path, changed(SETTINGS, shuffle_buffer=4))
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
    # Each reads two of the four tars, and alone can lose no more.
    settings = changed(SETTINGS, micro_batches=2, logging={"every": 1}, max_bad_fraction=0.5)
    with pytest.raises(
        InputError, match=r"and others: 2\.\d+ of 4 shards are lost, more than max_bad_fraction 0\.5 allows"
    ):
        run(shards, base, tmp_path, settings)


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
    """Latents that depend only on the displacement: a constant proportional to d."""
    return np.full((CHANNELS, SIZE, SIZE), 1.5 * pair["normalized_gap"])


def logged(folder, name):
    """Values of a metric over the run."""
    rows = (folder / "live" / "plots" / "metrics" / f"{name}.tsv").read_text().splitlines()[1:]
    return [float(row.split("\t")[1]) for row in rows]


LONG = changed(
    SETTINGS, batch_size=16, max_steps=100, learning_rate=1e-2, num_val_pairs=32, validate_every=1000,
    checkpoints={"every": 1000},
)  # fmt: skip


def test_a_tiny_model_learns_to_listen_to_the_displacement(base, tmp_path):
    shards = write_toy_shards(tmp_path / "shards", gap_decides, {"train": 64, "val": 32}, time_only)
    form = {"mapper_input": "displacement", "num_words": 4}
    _, validation = run(shards, base, tmp_path, changed(LONG, loss={"kind": "ddpm"}), form)
    start = logged(tmp_path, "gap.time.t900")[0]
    assert abs(start) < 0.05  # an untrained adapter ignores displacements
    assert validation["gap.time.t900"] > 0.5
    assert "gap.view.t900" not in validation  # no pair has a camera displacement


def test_a_tiny_model_learns_to_say_what_the_image_prompt_shows(base, tmp_path):
    shards = write_toy_shards(tmp_path / "shards", noise_target, {"train": 64, "val": 32})
    run(shards, base, tmp_path, changed(LONG, max_steps=60))
    first, last = logged(tmp_path, "val.loss")
    assert last < 0.5 * first  # on unseen pictures


@torch.no_grad()
def test_gaps_are_measured_against_the_truth_whatever_is_learnt(base, noise_shards):
    loader = make_loader(noise_shards, "val", 12, seed=0, shuffle=False, epochs=1)
    batches = [move(batch, torch.device("cpu")) for batch in loader]
    adapter = start_tiny_adapter(base)
    denoisers = (Denoiser(base, adapter, loss) for loss in ("distill", "ddpm"))
    distill, ddpm = (measure_gaps(each, adapter, batches, (500, 900), seed=0) for each in denoisers)
    gaps = {name: value for name, value in distill.items() if name.startswith("gap.")}
    assert len(gaps) == 6 and all(value == ddpm[name] != 0 for name, value in gaps.items())
    assert distill["val.loss"] != ddpm["val.loss"]


def test_the_optimizer_has_the_mapper_alone(base):
    adapter = start_tiny_adapter(base)
    settings = changed(SETTINGS, learning_rate=2e-4, weight_decay=0.1)
    (group,) = make_optimizer(Denoiser(base, adapter), settings.optimizer).param_groups
    assert (group["lr"], group["weight_decay"]) == (2e-4, 0.1)
    assert {id(p) for p in group["params"]} == {id(p) for p in adapter.mapper.parameters()}


def test_what_cannot_be_distilled_is_one_clear_line(noise_shards, base, tmp_path):
    with pytest.raises(InputError, match=r"train\.loss\.kind: expected ddpm without a prior"):
        run(noise_shards, base, tmp_path, form={"mapper_input": "displacement"})


def test_a_prior_is_not_trained_here(noise_shards, base, tmp_path):
    run(noise_shards, base, tmp_path)
    loaded, prior = Adapter.load(tmp_path / "adapter", base), tiny_prior()
    assert loaded.config.prior == prior.config and loaded.prior is not None
    assert_same_weights(loaded.prior, prior)


def test_bf16_trains_in_float32_weights(noise_shards, tiny_base, tmp_path):
    base = load_base(str(tiny_base))  # its own: the frozen U-Net's weights become bf16

    def draw(base, adapter):
        pipe = FourDistillPipeline.from_parts(base, adapter)
        made.append(pipe(tiny_picture(), time=0.5, num_inference_steps=2, output_type="latent").images)
        return pipe(tiny_picture(), time=0.5, num_inference_steps=2).images[0]

    made: list[Any] = []
    settings = changed(SETTINGS, mixed_precision="bf16")
    adapter, validation = run(noise_shards, base, tmp_path, settings, draw_samples=draw)
    assert {value.dtype for value in adapter.parameters()} == {torch.float32}
    assert base.unet.get_parameter("conv_out.weight").dtype == torch.bfloat16
    assert math.isfinite(validation["val.loss"])
    assert made and all(each.dtype == torch.float32 and each.isfinite().all() for each in made)


@pytest.mark.parametrize("change", [{"gradient_checkpointing": True}, {"compile": "aot_eager"}, {"micro_batches": 1}])
def test_what_trades_time_for_memory_changes_no_step(noise_shards, base, tmp_path, change):
    short = changed(SETTINGS, max_steps=2, warmup_steps=0, lr_scheduler="constant", num_val_pairs=0)
    plain, _ = run(noise_shards, base, tmp_path / "plain", short)
    other, _ = run(noise_shards, base, tmp_path / "other", changed(short, **change))
    base.unet._compiled_call_impl = None  # the base is shared by these tests
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"micro_batches": 3}, "batch_size: expected a multiple of its 3 micro-batches, got 4"),
        ({"micro_batches": 2}, "expected at least 2 shards of split train, .* found 1"),
        ({"mixed_precision": "fp16"}, "fp16: expected a GPU"),
    ],
)
def test_what_cannot_be_divided_or_computed_is_one_clear_line(noise_shards, base, tmp_path, change, line):
    with pytest.raises(InputError, match=line):
        run(noise_shards, base, tmp_path, changed(SETTINGS, **change))
