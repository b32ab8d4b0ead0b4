"""One evaluation from end to end: choose commands, paint, score against baselines and ceiling, write everything."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fourdistill.data.files import new_file, new_folder
from fourdistill.evaluation.commands import Command, choose_pairs
from fourdistill.evaluation.control import Outcomes, outcomes
from fourdistill.evaluation.feature_spaces import SPACES, FeatureSpaces
from fourdistill.evaluation.generate import FrameReader, Painter
from fourdistill.evaluation.grid import Sweep, build_sweeps
from fourdistill.evaluation.image_metrics import psnr, ssim, to_tensor
from fourdistill.evaluation.report import write_csv, write_pairs, write_sheets, write_sweeps
from fourdistill.evaluation.retrieval import Grid, read_grids
from fourdistill.evaluation.scores import Scores, Summary, commanded_frames, summarise_control, summarise_quality
from fourdistill.evaluation.systems import COPY, GAIN, MODEL, VAE, Pictures, nearest_train, paint_systems
from fourdistill.inference.pipeline import FourDistillPipeline


@dataclass(frozen=True)
class EvaluationSettings:
    """What to generate and how to group it; see the section `evaluate` of `params.yaml`."""

    num_pairs: int
    num_inference_steps: int
    guidance_scale: float
    batch_size: int
    feature_space: str
    """In which control is reported without a prefix: pixels, latents or clip."""
    large_gap: float
    """A pair leads far ("large") from this |normalized_gap| on, or ..."""
    large_azimuth_deg: float
    """... from this |azimuth| on."""
    num_bootstrap: int
    num_sheet_rows: int
    num_sweep_scenes: int
    """Scenes on whose grids control is measured."""
    num_sweep_steps: int
    num_shown_scenes: int
    """Scenes whose sweeps are shown as pictures."""


@dataclass(frozen=True)
class Inputs:
    """Where an evaluation reads from."""

    frames_table: Path
    frames: Path
    features: Path
    pairs_table: Path
    max_gap: int | None = None
    """Frames; with `max_gap_s` (seconds) what the pairs were drawn with."""
    max_gap_s: float | None = None


@dataclass(frozen=True)
class Outputs:
    """Where an evaluation writes to."""

    metrics: Path
    plots: Path
    """A folder for `displacement.csv` and `control.csv`."""
    report: Path
    """A folder of pictures and tables, replaced whole."""


def evaluate(
    pipe: FourDistillPipeline, inputs: Inputs, outputs: Outputs, settings: EvaluationSettings, seed: int
) -> dict[str, float]:
    """Score held-out pairs and sweeps and show them; returns the metrics, named as in `scores`.

    Raises `InputError` where a table or frame is missing, or there is no test pair.
    """
    rng = np.random.default_rng(seed)
    pairs = choose_pairs(inputs.pairs_table, settings.num_pairs, seed)
    sweeps = build_sweeps(
        inputs.frames_table, settings.num_sweep_scenes, settings.num_sweep_steps,
        max_gap=inputs.max_gap, max_gap_s=inputs.max_gap_s, rng=rng,
    )  # fmt: skip
    groups = [pairs, *(sweep.commands for sweep in sweeps)]
    commands = [command for group in groups for command in group]
    paint = Painter(
        pipe, FrameReader(inputs.frames_table, inputs.frames), num_inference_steps=settings.num_inference_steps,
        guidance_scale=settings.guidance_scale, batch_size=settings.batch_size, seed=seed,
    )  # fmt: skip
    pictures = paint_systems(paint, groups, nearest_train(commands, inputs.frames_table, inputs.features, rng), rng)
    truth = [paint.read(command.target) for command in commands]

    summary = Summary(settings.num_bootstrap, seed)
    large = np.array([command.is_large(settings.large_gap, settings.large_azimuth_deg) for command in pairs])
    quality = score_quality(first(pictures, len(pairs)), truth[: len(pairs)])
    summarise_quality(quality, pairs, large, summary)
    control = score_control(paint, inputs.frames_table, sweeps, last(pictures, len(pairs)))
    swept = [sweep.commands for sweep in sweeps]
    for (prefix, space), result in control.items():
        name = prefix if space == settings.feature_space else f"{prefix}{space}."
        summarise_control(name, swept, result, summary)

    seeds = [paint.noise_seed(command.source) for command in commands]
    triplets = list(zip(pictures[COPY], pictures[MODEL], truth, strict=True))
    with new_folder(outputs.report, suffixes={".png", ".gif", ".csv"}) as folder:
        columns = {prefix + name: values for prefix, scores in quality.items() for name, values in scores.items()}
        write_pairs(folder / "pairs.csv", pairs, seeds, large, columns)
        write_sheets(folder, pairs, triplets[: len(pairs)], settings.num_sheet_rows)
        write_sweeps(folder, sweeps, triplets[len(pairs) :], settings.num_shown_scenes)
    write_csv(outputs.plots / "displacement.csv", _displacement_points(pairs, quality))
    write_csv(outputs.plots / "control.csv", _control_points(commands[len(pairs) :], control, settings.feature_space))
    with new_file(outputs.metrics) as partial:
        partial.write_text(json.dumps(summary.metrics, indent=2) + "\n", encoding="utf-8")
    return summary.metrics


def first(pictures: Pictures, count: int) -> Pictures:
    """The first `count` pictures of every system."""
    return {prefix: images[:count] for prefix, images in pictures.items()}


def last(pictures: Pictures, start: int) -> Pictures:
    """The pictures of every system from `start` on."""
    return {prefix: images[start:] for prefix, images in pictures.items()}


def score_quality(pictures: Pictures, truth: Sequence[Image.Image]) -> dict[str, Scores]:
    """PSNR and SSIM of every system, and the model's gain over copying, per pair."""
    target = to_tensor(truth)
    systems: dict[str, Scores] = {}
    for prefix, images in pictures.items():
        pixels = to_tensor(images)
        systems[prefix] = {"psnr": psnr(pixels, target), "ssim": ssim(pixels, target)}
    systems[GAIN] = {name: values - systems[COPY][name] for name, values in systems[MODEL].items()}
    return systems


def score_control(
    paint: Painter, frames_table: Path, sweeps: Sequence[Sweep], pictures: Pictures
) -> dict[tuple[str, str], Outcomes]:
    """(system, feature space) => where its pictures were found on the grids of their scenes."""
    pipe = paint.pipe
    spaces = FeatureSpaces(pipe.vae, pipe.image_encoder, pipe.feature_extractor, paint.size, paint.batch_size)
    commands = [command for sweep in sweeps for command in sweep.commands]
    grids = read_grids(frames_table, sorted({command.target.scene for command in commands}))
    truth = {scene: _grid_features(spaces, paint, grid, scene) for scene, grid in grids.items()}
    found = {}
    for prefix, images in pictures.items():
        features = spaces(images, len(images), f"features, {prefix.rstrip('.') or 'model'}")
        for space in SPACES:
            known = {scene: features_of[space] for scene, features_of in truth.items()}
            found[prefix, space] = outcomes(commands, features[space], grids, known)
    return found


def _grid_features(spaces: FeatureSpaces, paint: Painter, grid: Grid, scene: str) -> dict[str, np.ndarray]:
    return spaces((paint.read(key) for key in grid.keys), len(grid.keys), f"grid, {scene}")


def _displacement_points(commands: Sequence[Command], systems: dict[str, Scores]) -> list[dict[str, float]]:
    """PSNR against how far a pair leads: one row a pair, from near to far, one column a system."""
    names = {MODEL: "model", COPY: "copy", VAE: "vae"}
    points = [
        {"size": round(command.size(), 4)}
        | {name: round(float(systems[prefix]["psnr"][i]), 4) for prefix, name in names.items()}
        for i, command in enumerate(commands)
    ]
    return sorted(points, key=lambda point: point["size"])


def _control_points(
    commands: Sequence[Command], control: dict[tuple[str, str], Outcomes], space: str
) -> list[dict[str, object]]:
    """Commanded against obtained displacement of the model: one row a command of a sweep."""
    result, frames = control[MODEL, space], commanded_frames(commands)
    return [
        {
            "kind": command.kind,
            "scene": command.source.scene,
            "commanded_frames": frames[i],
            "obtained_frames": result.obtained_frames[i],
            "commanded_azimuth_deg": round(command.spherical[0], 2) if command.spherical else 0.0,
            "obtained_azimuth_deg": round(float(np.nan_to_num(result.obtained_azimuth[i])), 2),
        }
        for i, command in enumerate(commands)
    ]
