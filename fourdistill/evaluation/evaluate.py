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
from fourdistill.evaluation.editability import CaptionEncoder, EditScores, choose_edits, score_edits
from fourdistill.evaluation.feature_spaces import SPACES, FeatureSpaces
from fourdistill.evaluation.generate import FrameReader, Painter
from fourdistill.evaluation.grid import Sweep, build_sweeps
from fourdistill.evaluation.image_metrics import psnr, ssim, to_tensor
from fourdistill.evaluation.page import write_page
from fourdistill.evaluation.report import write_csv, write_pairs, write_sheets, write_sweeps
from fourdistill.evaluation.retrieval import read_grids
from fourdistill.evaluation.scores import (
    Metrics,
    Scores,
    Summary,
    commanded_frames,
    summarise_control,
    summarise_edits,
    summarise_quality,
    summarise_sequences,
)
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
    num_edits: int
    """Pairs carried out with another scene's caption, at ..."""
    edit_lambdas: Sequence[float]
    """... these lambdas beside the adapter's own, and ..."""
    edit_image_scales: Sequence[float]
    """... these image scales beside 1."""


@dataclass(frozen=True)
class Inputs:
    """Where an evaluation reads from."""

    base: str
    """Folder or Hub id of the base."""
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
    """A folder for `displacement.csv`, `control.csv` and `editability.csv`."""
    report: Path
    """A folder of pictures and tables, replaced whole."""
    page: Path
    """One HTML file with all of it inside."""


def evaluate(
    pipe: FourDistillPipeline, inputs: Inputs, outputs: Outputs, settings: EvaluationSettings, seed: int
) -> Metrics:
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
    num_pairs = len(pairs)

    summary = Summary(settings.num_bootstrap, seed)
    large = np.array([command.is_large(settings.large_gap, settings.large_azimuth_deg) for command in pairs])
    quality = score_quality({name: images[:num_pairs] for name, images in pictures.items()}, truth[:num_pairs])
    summarise_quality(quality, pairs, large, summary)
    swept = SweptPictures(sweeps, {name: images[num_pairs:] for name, images in pictures.items()}, truth[num_pairs:])
    spaces = FeatureSpaces(pipe.vae, pipe.image_encoder, pipe.feature_extractor, paint.size, settings.batch_size)
    control = score_sweeps(swept, spaces, paint, inputs.frames_table, settings.feature_space, summary)
    edits = score_editability(pairs, paint, spaces, inputs.base, settings, rng)
    if edits:
        summarise_edits(edits[0], summary)

    seeds = [paint.noise_seed(command.source) for command in commands]
    triplets = list(zip(pictures[COPY], pictures[MODEL], truth, strict=True))
    with new_folder(outputs.report, suffixes={".png", ".gif", ".csv"}) as folder:
        columns = {prefix + name: values for prefix, scores in quality.items() for name, values in scores.items()}
        write_pairs(folder / "pairs.csv", pairs, seeds, large, columns)
        write_sheets(folder, pairs, triplets[:num_pairs], settings.num_sheet_rows)
        write_sweeps(folder, sweeps, triplets[num_pairs:], settings.num_shown_scenes)
    write_csv(outputs.plots / "displacement.csv", displacement_points(pairs, quality))
    write_csv(outputs.plots / "control.csv", control_points(swept.commands, control))
    write_csv(outputs.plots / "editability.csv", edit_points(edits))
    facts = (
        f"{num_pairs} held-out pairs and {len(sweeps)} sweeps of {len({sweep.scene for sweep in sweeps})} scenes; "
        f"{settings.num_inference_steps} steps, guidance {settings.guidance_scale:g}, seed {seed}; control in the "
        f"space of {settings.feature_space}; intervals are 95 % by bootstrap."
    )
    write_page(outputs.page, summary.metrics, outputs.report, outputs.plots, facts)
    with new_file(outputs.metrics) as partial:
        partial.write_text(json.dumps(summary.metrics, indent=2) + "\n", encoding="utf-8")
    return summary.metrics


@dataclass(frozen=True)
class SweptPictures:
    """What every system made of the sweeps' commands, one sweep after the other, and the truth."""

    sweeps: list[Sweep]
    pictures: Pictures
    truth: list[Image.Image]

    @property
    def commands(self) -> list[Command]:
        """Of all sweeps, one after the other."""
        return [command for sweep in self.sweeps for command in sweep.commands]


def score_quality(pictures: Pictures, truth: Sequence[Image.Image]) -> dict[str, Scores]:
    """PSNR and SSIM of every system, and the model's gain over copying, per pair."""
    target = to_tensor(truth)
    systems: dict[str, Scores] = {}
    for prefix, images in pictures.items():
        pixels = to_tensor(images)
        systems[prefix] = {"psnr": psnr(pixels, target), "ssim": ssim(pixels, target)}
    systems[GAIN] = {name: values - systems[COPY][name] for name, values in systems[MODEL].items()}
    return systems


def score_sweeps(
    swept: SweptPictures, spaces: FeatureSpaces, paint: Painter, frames_table: Path, declared: str, summary: Summary
) -> Outcomes:
    """Control and sequence quality of every system; returns the model's outcomes in the declared feature space."""
    commands, sweeps = swept.commands, [sweep.commands for sweep in swept.sweeps]
    grids = read_grids(frames_table, sorted({command.target.scene for command in commands}))
    known = {
        scene: spaces((paint.read(key) for key in grid.keys), len(grid.keys), f"features, grid of {scene}")
        for scene, grid in grids.items()
    }
    clip_truth = np.stack([known[c.target.scene]["clip"][grids[c.target.scene].index(c.target)] for c in commands])
    declared_outcomes: dict[str, Outcomes] = {}
    for prefix, images in swept.pictures.items():
        features = spaces(images, len(images), f"features, {prefix.rstrip('.') or 'model'}")
        for space in SPACES:
            result = outcomes(commands, features[space], grids, {scene: known[scene][space] for scene in known})
            summarise_control(prefix if space == declared else f"{prefix}{space}.", sweeps, result, summary)
            if space == declared:
                declared_outcomes[prefix] = result
        summarise_sequences(prefix, sweeps, images, swept.truth, features["clip"], clip_truth, summary)
    return declared_outcomes[MODEL]


def score_editability(
    pairs: Sequence[Command],
    paint: Painter,
    spaces: FeatureSpaces,
    base: str,
    settings: EvaluationSettings,
    rng: np.random.Generator,
) -> list[EditScores]:
    """Edits at every lambda and image scale; none where the base has no captions' space, or frames no captions."""
    encode = CaptionEncoder.from_base(paint.pipe, base)
    edits = choose_edits(pairs, settings.num_edits, rng)
    if encode is None or not edits:
        return []
    default = paint.pipe.adapter.config.lambda_
    lambdas = [default, *(value for value in settings.edit_lambdas if value != default)]
    scales = [1.0, *(value for value in settings.edit_image_scales if value != 1)]
    return score_edits(paint, spaces, encode, edits, lambdas, scales)


def displacement_points(commands: Sequence[Command], systems: dict[str, Scores]) -> list[dict[str, float]]:
    """PSNR against how far a pair leads: one row a pair, from near to far, one column a system."""
    names = {MODEL: "model", COPY: "copy", VAE: "vae"}
    points = [
        {"size": round(command.size(), 4)}
        | {name: round(float(systems[prefix]["psnr"][i]), 4) for prefix, name in names.items()}
        for i, command in enumerate(commands)
    ]
    return sorted(points, key=lambda point: point["size"])


def control_points(commands: Sequence[Command], result: Outcomes) -> list[dict[str, object]]:
    """Commanded against obtained displacement of the model: one row a command of a sweep."""
    frames = commanded_frames(commands)
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


def edit_points(edits: Sequence[EditScores]) -> list[dict[str, float]]:
    """Fidelity against editability: one row a setting; the default first, nothing but a heading where none was made."""
    names = ("lambda", "image_scale", "clip_t", "clip_i")
    rows = [(e.lambda_, e.image_scale, round(e.clip_t.mean(), 4), round(e.clip_i.mean(), 4)) for e in edits]
    return [dict(zip(names, map(float, row), strict=True)) for row in rows]
