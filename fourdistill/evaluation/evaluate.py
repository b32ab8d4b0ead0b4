"""One evaluation from end to end: choose pairs, generate, score against baseline and ceiling, write everything."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fourdistill.data.files import new_file, new_folder
from fourdistill.evaluation.commands import Command, choose_pairs
from fourdistill.evaluation.generate import FrameReader, generate, reconstruct
from fourdistill.evaluation.grid import build_sweeps
from fourdistill.evaluation.image_metrics import psnr, ssim, to_tensor
from fourdistill.evaluation.report import Triplet, write_csv, write_pairs, write_sheets, write_sweep
from fourdistill.evaluation.scores import COPY, GAIN, MODEL, VAE, Scores, summarise
from fourdistill.inference.pipeline import FourDistillPipeline


@dataclass(frozen=True)
class EvaluationSettings:
    """What to generate and how to group it; see the section `evaluate` of `params.yaml`."""

    num_pairs: int
    num_inference_steps: int
    guidance_scale: float
    batch_size: int
    large_gap: float
    """A pair leads far ("large") from this |normalized_gap| on, or ..."""
    large_azimuth_deg: float
    """... from this |azimuth| on."""
    num_bootstrap: int
    num_sheet_rows: int
    num_sweeps: int
    """Scenes shown as sweeps."""
    num_sweep_steps: int


class Evaluation:
    """Generates for commands and looks up the frames that belong to them, all at the size of the base's pictures."""

    def __init__(self, pipe: FourDistillPipeline, read: FrameReader, settings: EvaluationSettings):
        self.pipe, self.read, self.settings = pipe, read, settings

    def triplets(self, commands: Sequence[Command], seeds: Sequence[int], description: str) -> list[Triplet]:
        """Condition, generated, truth for every command."""
        generated = generate(
            self.pipe, commands, self.read, seeds, num_inference_steps=self.settings.num_inference_steps,
            guidance_scale=self.settings.guidance_scale, batch_size=self.settings.batch_size, description=description,
        )  # fmt: skip
        return [
            (_fit(self.read(command.source), image), image, _fit(self.read(command.target), image))
            for command, image in zip(commands, generated, strict=True)
        ]

    def score(self, triplets: Sequence[Triplet]) -> dict[str, Scores]:
        """PSNR and SSIM of the model, the copy baseline and the VAE's ceiling, and the gain over copying, per pair."""
        condition, generated, truth = (list(images) for images in zip(*triplets, strict=True))
        candidates = {MODEL: generated, COPY: condition, VAE: reconstruct(self.pipe, truth, self.settings.batch_size)}
        target = to_tensor(truth)
        systems: dict[str, Scores] = {}
        for prefix, images in candidates.items():
            pixels = to_tensor(images)
            systems[prefix] = {"psnr": psnr(pixels, target), "ssim": ssim(pixels, target)}
        systems[GAIN] = {name: values - systems[COPY][name] for name, values in systems[MODEL].items()}
        return systems


def evaluate(
    pipe: FourDistillPipeline,
    frames_table: Path,
    frames_dir: Path,
    pairs_table: Path,
    settings: EvaluationSettings,
    *,
    metrics_path: Path,
    plot_path: Path,
    report_folder: Path,
    seed: int,
    max_gap: int | None = None,
    max_gap_s: float | None = None,
) -> dict[str, float]:
    """Score held-out pairs and show them: flat metrics in JSON, a plot's points in CSV, and a folder of pictures.

    Returns the metrics, named as in `scores`.
    `max_gap` and `max_gap_s` are those that the pairs were drawn with. The report folder is replaced whole. Raises
    `InputError` where a table or frame is missing, or there is no test pair.
    """
    evaluation = Evaluation(pipe, FrameReader(frames_table, frames_dir), settings)
    commands = choose_pairs(pairs_table, settings.num_pairs, seed)
    seeds = np.random.default_rng(seed).integers(2**31, size=len(commands)).tolist()
    large = np.array([command.is_large(settings.large_gap, settings.large_azimuth_deg) for command in commands])
    steps = settings.num_sweep_steps
    sweeps = build_sweeps(frames_table, settings.num_sweeps, steps, max_gap=max_gap, max_gap_s=max_gap_s)

    triplets = evaluation.triplets(commands, seeds, "evaluate pairs")
    systems = evaluation.score(triplets)
    metrics = summarise(systems, commands, large, num_bootstrap=settings.num_bootstrap, seed=seed)
    with new_folder(report_folder, suffixes={".png", ".gif", ".csv"}) as folder:
        write_sheets(folder, commands, triplets, settings.num_sheet_rows)
        columns = {prefix + name: values for prefix, scores in systems.items() for name, values in scores.items()}
        write_pairs(folder / "pairs.csv", commands, seeds, large, columns)
        for sweep in sweeps:
            # One noise for a whole sweep: what changes from picture to picture is the displacement alone.
            write_sweep(folder, sweep, evaluation.triplets(sweep.commands, [seed] * len(sweep.commands), sweep.name))
    write_csv(plot_path, _displacement_points(commands, systems))
    with new_file(metrics_path) as partial:
        partial.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return metrics


def _displacement_points(commands: Sequence[Command], systems: dict[str, Scores]) -> list[dict[str, float]]:
    """PSNR against how far a pair leads: one row a pair, from near to far, one column a system."""
    names = {MODEL: "model", COPY: "copy", VAE: "vae"}
    points = [
        {"size": round(command.size(), 4)}
        | {name: round(float(systems[prefix]["psnr"][i]), 4) for prefix, name in names.items()}
        for i, command in enumerate(commands)
    ]
    return sorted(points, key=lambda point: point["size"])


def _fit(frame: Image.Image, generated: Image.Image) -> Image.Image:
    return frame if frame.size == generated.size else frame.resize(generated.size, Image.Resampling.LANCZOS)
