"""Scores of single images => a flat set of figures with stable names and bootstrap intervals.

A name is `[<system>.][<group>.]<metric>[.<size>][.ci_low|.ci_high]`: `psnr`, `time.psnr`, `new_scene.psnr`,
`psnr.large`, `baseline.copy.psnr.large`, `ceiling.vae.psnr.ci_low`. `gain.copy.` is the model minus the copy
baseline, pair by pair. Control metrics are named `[<system>.][<space>.]<metric>`: `time.mae_frames` is the model's in
the declared feature space, `baseline.copy.clip.view.azimuth_error_deg` the copy baseline's in CLIP features. In the
declared space a group may come before the metric: `known_scene.time.mae_frames` covers scenes seen in training,
`new_scene.` new ones. Edits are named `editability.[<setting>.]<metric>`; without a setting the prompt has full
strength (see `editability`).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
from PIL import Image

from fourdistill.evaluation.metrics.control import Outcomes, control_values, sweep_correlation
from fourdistill.evaluation.metrics.sequences import SequenceDistance, similarity, warp_error
from fourdistill.evaluation.protocol.command import Command
from fourdistill.tables import KINDS

Scores = Mapping[str, np.ndarray]
"""Metric => one value per pair, (N,); NaN where there is none."""
Metrics = dict[str, float]
Interval = Callable[[int, np.random.Generator], tuple[float, float]]

MEDIANS = {"time.mae_frames": "time.median_frames", "time.mae_s": "time.median_s"}
DIGITS = 5


class Summary:
    """Named figures, each with its 95 % bootstrap interval, always from the same seed."""

    def __init__(self, num_bootstrap: int, seed: int):
        self.metrics: Metrics = {}
        self._num_bootstrap, self._seed = num_bootstrap, seed

    def add(
        self, name: str, values: np.ndarray, statistic: Callable = np.mean, groups: np.ndarray | None = None
    ) -> None:
        """Add one figure from its finite values (K,); without values, do nothing.

        `groups` (K,): values of one group were not drawn independently and are resampled together.
        """
        if len(values):
            parts = list(values) if groups is None else [values[groups == group] for group in np.unique(groups)]
            self.put(
                name, float(statistic(values)), partial(bootstrap_interval, parts, statistic=statistic), len(parts)
            )

    def put(self, name: str, value: float, interval: Interval, num_draws: int) -> None:
        """Add one figure; `interval` computes its interval from a number of resamplings and a generator.

        There is no interval if `num_draws`, the number of independent draws behind the figure, is below two.
        """
        self.metrics[name] = round(value, DIGITS)
        if num_draws > 1:
            low, high = interval(self._num_bootstrap, np.random.default_rng(self._seed))
            self.metrics |= {f"{name}.ci_low": round(low, DIGITS), f"{name}.ci_high": round(high, DIGITS)}


def summarise_quality(
    systems: Mapping[str, Scores], commands: Sequence[Command], large: np.ndarray, summary: Summary
) -> None:
    """Add the means of every system over all pairs, kinds, sizes, new and known scenes; empty groups are left out.

    `systems` maps a prefix (`""`, `baseline.copy.`, ...) to its scores; `large` (N,) marks large displacements.
    """
    kinds = np.array([command.kind for command in commands])
    groups = {"{}": np.ones(len(commands), bool), "{}.large": large, "{}.small": ~large}
    groups |= {kind + ".{}": kinds == kind for kind in KINDS}
    new_scene = np.array([command.new_scene for command in commands])
    groups |= {"new_scene.{}": new_scene, "known_scene.{}": ~new_scene}
    summary.metrics |= {pattern.format("num_pairs"): int(members.sum()) for pattern, members in groups.items()}
    for prefix, scores in systems.items():
        for metric, values in scores.items():
            for pattern, members in groups.items():
                summary.add(prefix + pattern.format(metric), values[members & np.isfinite(values)])


def summarise_groups(prefix: str, sweeps: Sequence[Sequence[Command]], result: Outcomes, summary: Summary) -> None:
    """`summarise_control` over all sweeps, over those of scenes seen in training, and over those of new scenes."""
    summarise_control(prefix, sweeps, result, summary)
    new_scene = np.array([command.new_scene for sweep in sweeps for command in sweep], bool)
    for name, rows in {"new_scene.": new_scene, "known_scene.": ~new_scene}.items():
        members = [sweep for sweep in sweeps if sweep[0].new_scene == (name == "new_scene.")]
        summarise_control(prefix + name, members, result[rows], summary)


def summarise_control(prefix: str, sweeps: Sequence[Sequence[Command]], result: Outcomes, summary: Summary) -> None:
    """Add the control metrics of one system in one feature space; `result` is in the order of all sweeps' commands.

    `time.spearman` is the mean over the time sweeps. Intervals resample sweeps, because the images of one sweep share
    their source and noise.
    """
    commands = [command for sweep in sweeps for command in sweep]
    sweep_of = np.repeat(np.arange(len(sweeps)), [len(sweep) for sweep in sweeps])
    for name, (values, rows) in control_values(commands, result).items():
        summary.add(prefix + name, values, groups=sweep_of[rows])
        if name in MEDIANS:
            summary.add(prefix + MEDIANS[name], values, np.median, groups=sweep_of[rows])
    starts = np.cumsum([0, *map(len, sweeps)])
    correlations = [
        sweep_correlation(commanded_frames(sweep), result.obtained_frames[start : start + len(sweep)])
        for start, sweep in zip(starts, sweeps, strict=False)
        if sweep[0].kind == "time" and len(set(commanded_frames(sweep))) > 1
    ]
    summary.add(f"{prefix}time.spearman", np.array(correlations))


def commanded_frames(commands: Sequence[Command]) -> np.ndarray:
    """The displacement in time of each command in frames (M,): target minus source."""
    return np.array([float(command.target.frame - command.source.frame) for command in commands])


def summarise_sequences(
    prefix: str,
    sweeps: Sequence[Sequence[Command]],
    generated: Sequence[Image.Image],
    truth: Sequence[Image.Image],
    clip: np.ndarray,
    clip_truth: np.ndarray,
    summary: Summary,
) -> None:
    """Add `sequence.<kind>.*` of one system over its time and camera sweeps; see `sequences`.

    Images and their CLIP features (M, P) are in the order of all sweeps' commands. The distance uses only sweeps of
    full length, and needs at least three of them.
    """
    bounds = np.cumsum([0, *map(len, sweeps)])
    spans = [slice(int(start), int(stop)) for start, stop in pairwise(bounds)]
    for kind in ("time", "view"):
        members = [span for span, sweep in zip(spans, sweeps, strict=True) if sweep[0].kind == kind and len(sweep) > 1]
        warped = np.array([warp_error(generated[span], truth[span]) for span in members])
        name = f"{prefix}sequence.{kind}"
        summary.add(f"{name}.warp_error", warped[np.isfinite(warped)])
        summary.add(f"{name}.similarity", np.array([similarity(clip[span]) for span in members]))
        longest = max((span.stop - span.start for span in members), default=0)
        full = [span for span in members if span.stop - span.start == longest]
        if len(full) > 2:  # with fewer, resampling cannot vary the distance
            distance = SequenceDistance(*(np.stack([f[span] for span in full]) for f in (clip, clip_truth)))
            summary.put(f"{name}.distance", distance.value(), distance.interval, len(full))


def summarise_edits(settings: Mapping[str, Scores], commands: Sequence[Command], summary: Summary) -> None:
    """Add the figures of edits; `settings` maps a prefix to the scores of all `commands`, NaN where there is none.

    Intervals resample scenes, because the images of one scene share their source.
    """
    scene_of = np.unique([command.source.scene for command in commands], return_inverse=True)[1]
    for prefix, scores in settings.items():
        for metric, values in scores.items():
            known = np.isfinite(values)
            summary.add(f"editability.{prefix}{metric}", values[known], groups=scene_of[known])


def bootstrap_interval(
    parts: Sequence[np.ndarray] | np.ndarray,
    num_bootstrap: int,
    rng: np.random.Generator,
    statistic: Callable = np.mean,
) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic of all values, resampling whole parts.

    A part is a number, or an array of values that belong together.
    """
    draws = rng.integers(len(parts), size=(num_bootstrap, len(parts)))
    if statistic is np.mean:
        sums, sizes = np.array([np.sum(part) for part in parts]), np.array([np.size(part) for part in parts])
        found = sums[draws].sum(1) / sizes[draws].sum(1)
    else:
        arrays = [np.atleast_1d(part) for part in parts]
        found = [statistic(np.concatenate([arrays[i] for i in draw])) for draw in draws]
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)
