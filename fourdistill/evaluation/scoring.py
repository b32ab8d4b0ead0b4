"""Score images from any system: image quality of single pairs, control and sequence quality of sweeps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fourdistill.evaluation.metrics.backdrop import BackdropReader
from fourdistill.evaluation.metrics.cells import Cells, read_cells
from fourdistill.evaluation.metrics.control import Outcomes
from fourdistill.evaluation.metrics.feature_spaces import FeatureSpaces
from fourdistill.evaluation.metrics.image_metrics import psnr, ssim, to_tensor
from fourdistill.evaluation.metrics.orbit_poses import OrbitScorer, summarise_orbits
from fourdistill.evaluation.metrics.perceptual import BACKBONES, NotComputed, fid, kid, lpips
from fourdistill.evaluation.metrics.second_opinion import score_second_opinion
from fourdistill.evaluation.metrics.silhouette import NUM_SCORED, WHERE, num_scored, score_silhouettes
from fourdistill.evaluation.metrics.summary import (
    Scores,
    Summary,
    summarise_control,
    summarise_groups,
    summarise_quality,
    summarise_sequences,
)
from fourdistill.evaluation.protocol.command import Command
from fourdistill.evaluation.protocol.frames import FrameReader
from fourdistill.evaluation.protocol.sweeps import Sweep
from fourdistill.evaluation.settings import ScoreSettings
from fourdistill.evaluation.systems.side_by_side import COPY, GAIN, MODEL, VAE, Pictures


@dataclass(frozen=True)
class Task:
    """The commands: single pairs first, then sweeps, in order."""

    pairs: list[Command]
    sweeps: list[Sweep]

    @property
    def commands(self) -> list[Command]:
        """The commands of the pairs, then of all sweeps; images have the same order."""
        return [*self.pairs, *self.swept]

    @property
    def swept(self) -> list[Command]:
        """The commands of all sweeps."""
        return [command for sweep in self.sweeps for command in sweep.commands]


@dataclass(frozen=True)
class Scored:
    """The figures, and the single values behind the plots."""

    summary: Summary
    quality: dict[str, Scores]
    """System => PSNR, SSIM and other scores of every pair; NaN where there is none."""
    large: np.ndarray
    """Which pairs have a large displacement (num_pairs,) bool."""
    control: Outcomes
    """Outcomes of the model's sweeps in the declared feature space."""
    cells: Cells
    """Cells of the scenes with sweeps."""
    not_computed: list[NotComputed]
    """Metrics whose pretrained network is unavailable, or that need more images."""

    def remarks(self) -> list[str]:
        """What readers of the figures must know, one line each."""
        figures = self.summary.metrics
        remarks = [f"{missing.metric} was not computed: {missing.reason}" for missing in self.not_computed]
        if NUM_SCORED in figures:
            of = f"{figures[NUM_SCORED]} of {figures['num_pairs']} pairs"
            remarks.append(f"silhouette and colour are of {of}: those {WHERE}")
        return remarks + [f"{name} by {BACKBONES[name]}" for name in BACKBONES if name in figures]


class Scorer:
    """Scores the images of several systems for one task against the true frames."""

    def __init__(
        self,
        read: FrameReader,
        spaces: FeatureSpaces,
        frames_table: Path,
        scenes_table: Path,
        settings: ScoreSettings,
        seed: int,
    ):
        self.read, self.spaces, self.settings, self.seed = read, spaces, settings, seed
        self.frames_table, self.scenes_table = frames_table, scenes_table

    def __call__(self, task: Task, pictures: Pictures) -> Scored:
        """`pictures` of every system are in the order of `task.commands`; `MODEL` and `COPY` must be included."""
        summary = Summary(self.settings.num_bootstrap, self.seed)
        count = len(task.pairs)
        limits = self.settings.large_gap, self.settings.large_azimuth_deg
        large = np.array([command.is_large(*limits) for command in task.pairs], bool)
        quality: dict[str, Scores] = {}
        missing: list[NotComputed] = []
        if task.pairs:
            truth = [self.read(command.target) for command in task.pairs]
            of_pairs = {name: images[:count] for name, images in pictures.items()}
            quality = score_quality(of_pairs, truth)
            missing = score_perception(of_pairs, truth, quality, summary, self.seed)
            if self.spaces.second_opinion is not None:
                found = score_second_opinion(self.spaces.second_opinion, of_pairs, to_tensor(truth), self.seed)
                opinions, of_sets, no_kid = found
                quality |= {prefix: {**quality[prefix], **scores} for prefix, scores in opinions.items()}
                summary.metrics |= of_sets
                missing += [no_kid] if no_kid else []
            backdrop = BackdropReader(self.frames_table, self.read)
            silhouettes = score_silhouettes(of_pairs, truth, [backdrop(command.target) for command in task.pairs])
            quality |= {prefix: {**quality[prefix], **found} for prefix, found in silhouettes.items()}
            summary.metrics[NUM_SCORED] = num_scored(silhouettes[MODEL])
            summarise_quality(quality, task.pairs, large, summary)
        cells = read_cells(
            {sweep.scene for sweep in task.sweeps}, self.frames_table, self.scenes_table, self.read, self.spaces
        )
        of_sweeps = {name: images[count:] for name, images in pictures.items()}
        control = self.score_sweeps(task, of_sweeps, cells, summary)
        return Scored(summary, quality, large, control, cells, missing)

    def score_sweeps(self, task: Task, pictures: Pictures, cells: Cells, summary: Summary) -> Outcomes:
        """Score control and sequence quality of every system; returns the model's outcomes in the declared space."""
        commands, sweeps = task.swept, [sweep.commands for sweep in task.sweeps]
        truth = [self.read(command.target) for command in commands]
        clip_truth = np.stack([cells.target(command, "clip") for command in commands])
        found: dict[tuple[str, str], Outcomes] = {}
        for prefix, images in pictures.items():
            features = self.spaces(images, len(images), f"features, {prefix.rstrip('.') or 'model'}")
            for space in self.spaces.names:
                found[prefix, space] = cells.locate(commands, features[space], space)
                if space == self.settings.feature_space:
                    summarise_groups(prefix, sweeps, found[prefix, space], summary)
                else:
                    summarise_control(f"{prefix}{space}.", sweeps, found[prefix, space], summary)
            summarise_sequences(prefix, sweeps, images, truth, features["clip"], clip_truth, summary)
        if self.settings.structure_from_motion:
            pose = OrbitScorer(self.frames_table, self.read.size, self.seed)
            for prefix in (MODEL, VAE):
                summarise_orbits(prefix, sweeps, pictures[prefix], pose, summary)
        return found[MODEL, self.settings.feature_space]


def score_quality(pictures: Pictures, truth: Sequence[Image.Image]) -> dict[str, Scores]:
    """PSNR and SSIM of every system, and the model's gain over the copy baseline, per pair."""
    target = to_tensor(truth)
    systems: dict[str, Scores] = {}
    for prefix, images in pictures.items():
        pixels = to_tensor(images)
        systems[prefix] = {"psnr": psnr(pixels, target), "ssim": ssim(pixels, target)}
    systems[GAIN] = {name: values - systems[COPY][name] for name, values in systems[MODEL].items()}
    return systems


def score_perception(
    pictures: Pictures, truth: Sequence[Image.Image], quality: dict[str, Scores], summary: Summary, seed: int
) -> list[NotComputed]:
    """Add LPIPS per pair to `quality`, KID and FID per system to `summary`; return what could not be computed."""
    target = to_tensor(truth)
    missing: dict[str, NotComputed] = {}
    for prefix, images in pictures.items():
        pixels = to_tensor(images)
        likeness = lpips(pixels, target)
        if isinstance(likeness, NotComputed):
            missing["lpips"] = likeness
        else:
            quality[prefix] = {**quality[prefix], "lpips": likeness}
        kernel = kid(pixels, target, subset_size=max(2, len(truth) // 2), seed=seed)
        if isinstance(kernel, NotComputed):
            missing["kid"] = kernel
        else:
            summary.metrics[f"{prefix}kid"], summary.metrics[f"{prefix}kid.std"] = kernel
        frechet = fid(pixels, target)
        if isinstance(frechet, NotComputed):
            missing["fid"] = frechet
        else:
            summary.metrics[f"{prefix}fid"] = frechet
    return list(missing.values())
