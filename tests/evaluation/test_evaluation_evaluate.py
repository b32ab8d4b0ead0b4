import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fourdistill.errors import InputError
from fourdistill.evaluation.commands import FrameKey, choose_pairs
from fourdistill.evaluation.evaluate import Evaluation, EvaluationSettings, evaluate
from fourdistill.evaluation.generate import FrameReader, command_arguments, generate, reconstruct
from fourdistill.evaluation.image_metrics import MAX_PSNR
from fourdistill.evaluation.scores import COPY, GAIN, MODEL, VAE
from fourdistill.inference.pipeline import FourDistillPipeline
from fourdistill.models.adapter import Adapter
from fourdistill.models.adapter_config import AdapterSettings
from fourdistill.models.base import load_base

SETTINGS = EvaluationSettings(
    num_pairs=9,
    num_inference_steps=2,
    guidance_scale=1.0,
    batch_size=4,
    large_gap=0.25,
    large_azimuth_deg=100,
    num_bootstrap=50,
    num_sheet_rows=2,
    num_sweeps=1,
    num_sweep_steps=3,
)


def make_pipe(tiny_base, view_encoding="spherical"):
    base = load_base(str(tiny_base))
    settings = AdapterSettings(view_encoding=view_encoding)
    return FourDistillPipeline.from_parts(base, Adapter.from_base(base, settings, torch.Generator().manual_seed(0)))


@pytest.fixture(scope="module")
def pipe(tiny_base):
    return make_pipe(tiny_base)


@pytest.fixture
def run(pipe, grid_scenes, tmp_path):
    """Run an evaluation into tmp_path."""

    def run(settings=SETTINGS, frames=grid_scenes.frames):
        evaluate(
            pipe,
            grid_scenes.frames_table,
            frames,
            grid_scenes.pairs_table,
            settings,
            metrics_path=tmp_path / "metrics.json",
            plot_path=tmp_path / "plots" / "displacement.csv",
            report_folder=tmp_path / "reports" / "evaluation",
            seed=0,
        )
        return json.loads((tmp_path / "metrics.json").read_text())

    return run


def test_everything_is_written(run, tmp_path, grid_scenes):
    metrics = run()
    assert metrics["num_pairs"] == 9
    for name in ("psnr", "ssim", "baseline.copy.psnr", "baseline.copy.ssim", "ceiling.vae.psnr", "time.psnr"):
        assert metrics[f"{name}.ci_low"] <= metrics[name] <= metrics[f"{name}.ci_high"]
    assert metrics["gain.copy.psnr"] == pytest.approx(metrics["psnr"] - metrics["baseline.copy.psnr"], abs=2e-4)
    assert {"view.psnr", "joint.psnr", "psnr.large", "baseline.copy.psnr.large", "psnr.small"} <= metrics.keys()

    folder = tmp_path / "reports" / "evaluation"
    pictures = {"pairs_time.png", "pairs_view.png", "pairs_joint.png"}
    sweeps = {f"walk_{sweep}.{ending}" for sweep in ("time", "camera") for ending in ("png", "gif")}
    assert {path.name for path in folder.iterdir()} == pictures | sweeps | {"pairs.csv"}
    with Image.open(folder / "walk_time.gif") as gif:
        assert getattr(gif, "n_frames", 1) == 4  # three steps, there and back

    rows = list(csv.DictReader((folder / "pairs.csv").open()))
    chosen = choose_pairs(grid_scenes.pairs_table, 9, seed=0)
    assert [int(row["pair_id"]) for row in rows] == [command.pair_id for command in chosen]
    assert np.mean([float(row["psnr"]) for row in rows]) == pytest.approx(metrics["psnr"], abs=1e-3)
    points = list(csv.DictReader((tmp_path / "plots" / "displacement.csv").open()))
    assert len(points) == 9 and [float(p["size"]) for p in points] == sorted(float(p["size"]) for p in points)


def test_figures_depend_neither_on_the_batch_nor_on_an_earlier_run(run):
    first = run()
    assert run(replace(SETTINGS, batch_size=5)) == pytest.approx(first, abs=0.02)


def test_a_killed_evaluation_leaves_no_half_written_report(run, tmp_path, grid_scenes):
    run()
    before = (tmp_path / "metrics.json").read_bytes()
    with pytest.raises(InputError, match=r"\.jpg: expected a readable JPEG frame"):
        run(frames=tmp_path / "nowhere")
    assert (tmp_path / "metrics.json").read_bytes() == before
    assert {path.name for path in (tmp_path / "reports").iterdir()} == {"evaluation"}


def test_known_answers(pipe, grid_scenes):
    read = FrameReader(grid_scenes.frames_table, grid_scenes.frames)
    evaluation = Evaluation(pipe, read, SETTINGS)
    a, b = (read(FrameKey("walk", "cam00", frame)) for frame in (0, 5))
    systems = evaluation.score([(a, b, b), (a, a, b)])  # a perfect answer, and a copy
    assert systems[MODEL]["psnr"][0] == MAX_PSNR and systems[MODEL]["ssim"][0] == pytest.approx(1)
    assert systems[MODEL]["psnr"][1] == systems[COPY]["psnr"][1] == systems[COPY]["psnr"][0]
    assert systems[GAIN]["psnr"][1] == 0 and systems[GAIN]["ssim"][0] > 0.1
    assert (systems[VAE]["psnr"] < MAX_PSNR).all()


def test_reconstruction_keeps_size_and_order(pipe, grid_scenes):
    read = FrameReader(grid_scenes.frames_table, grid_scenes.frames)
    frames = [read(FrameKey("walk", "cam00", frame)) for frame in range(5)]
    whole = reconstruct(pipe, frames, batch_size=5)
    parts = reconstruct(pipe, frames, batch_size=2)
    assert [image.size for image in whole] == [(32, 32)] * 5
    for x, y in zip(whole, parts, strict=True):
        assert np.abs(np.asarray(x).astype(int) - np.asarray(y)).max() <= 1


def test_commands_reach_the_pipeline_in_the_form_of_the_adapter(tiny_base, pipe, grid_scenes):
    commands = choose_pairs(grid_scenes.pairs_table, 6, seed=0)
    spherical = command_arguments(commands, "spherical")
    matrix = command_arguments(commands, "matrix")
    for i, command in enumerate(commands):
        assert spherical["time"][i] == matrix["time"][i] == command.time
        assert (spherical["azimuth"][i] is None) == (matrix["relative_pose"][i] is None) == (command.kind == "time")
        if command.spherical:
            assert spherical["azimuth"][i] == command.spherical[0]

    read = FrameReader(grid_scenes.frames_table, grid_scenes.frames)
    kwargs = {"num_inference_steps": 1, "guidance_scale": 1.0, "batch_size": 6, "description": "test"}
    images = generate(make_pipe(tiny_base, "matrix"), commands, read, list(range(6)), **kwargs)
    assert len(images) == 6


def test_a_frame_that_the_table_lacks_is_named(grid_scenes):
    read = FrameReader(grid_scenes.frames_table, grid_scenes.frames)
    with pytest.raises(InputError, match=r"frames\.parquet: expected frame 77 of walk/cam00"):
        read(FrameKey("walk", "cam00", 77))
