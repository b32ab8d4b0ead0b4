"""Scores of single pictures => flat, stably named figures with bootstrap intervals.

A name is `[<system>.][<group>.]<metric>[.<size>][.ci_low|.ci_high]`: `psnr`, `time.psnr`, `new_scene.psnr`,
`psnr.large`, `baseline.copy.psnr.large`, `ceiling.vae.psnr.ci_low`. `gain.copy.` is the model minus the copy
baseline, pair by pair. Control metrics are named `[<system>.][<space>.]<metric>`: `time.mae_frames` is the model's in
the declared feature space, `baseline.copy.clip.view.azimuth_error_deg` the copy's by CLIP features.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fourdistill.data.tables import KINDS
from fourdistill.evaluation.commands import Command
from fourdistill.evaluation.control import Outcomes, control_values, sweep_correlation
from fourdistill.evaluation.systems import COPY, LAMBDA_0, MODEL, NEAREST, SHUFFLED, VAE, ZERO

Scores = Mapping[str, np.ndarray]
"""Metric => one value per pair, (N,)."""
Metrics = dict[str, float]

MEDIANS = {"time.mae_frames": "time.median_frames", "time.mae_s": "time.median_s"}
LABELS = {
    MODEL: "generated",
    COPY: "copy the condition",
    ZERO: "displacement zero",
    SHUFFLED: "displacement shuffled",
    LAMBDA_0: "lambda 0",
    NEAREST: "nearest training frame",
    VAE: "truth through the VAE",
}


class Summary:
    """Figures under their names, each with its 95 % interval by bootstrap, always from the same seed."""

    def __init__(self, num_bootstrap: int, seed: int):
        self.metrics: Metrics = {}
        self._num_bootstrap, self._seed = num_bootstrap, seed

    def add(self, name: str, values: np.ndarray, statistic: Callable = np.mean) -> None:
        """One figure from its values (K,); nothing where there are none."""
        if len(values):
            low, high = bootstrap_interval(values, self._num_bootstrap, np.random.default_rng(self._seed), statistic)
            self.metrics[name] = round(float(statistic(values)), 4)
            self.metrics[f"{name}.ci_low"], self.metrics[f"{name}.ci_high"] = round(low, 4), round(high, 4)


def summarise_quality(
    systems: Mapping[str, Scores], commands: Sequence[Command], large: np.ndarray, summary: Summary
) -> None:
    """Means of every system over all pairs, kinds, sizes, new and known scenes; groups without pairs are left out.

    `systems` maps a prefix (`""`, `baseline.copy.`, ...) to its scores; `large` (N,) says which pairs lead far.
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
                summary.add(prefix + pattern.format(metric), values[members])


def summarise_control(prefix: str, sweeps: Sequence[Sequence[Command]], result: Outcomes, summary: Summary) -> None:
    """The control metrics of one system in one feature space, over the commands of all sweeps, one after the other.

    `<kind>.spearman` is the mean over the sweeps of that kind, and is resampled by sweeps.
    """
    commands = [command for sweep in sweeps for command in sweep]
    for name, values in control_values(commands, result).items():
        summary.add(prefix + name, values)
        if name in MEDIANS:
            summary.add(prefix + MEDIANS[name], values, np.median)
    starts = np.cumsum([0, *map(len, sweeps)])
    correlations = [
        sweep_correlation(commanded_frames(sweep), result.obtained_frames[start : start + len(sweep)])
        for start, sweep in zip(starts, sweeps, strict=False)
        if sweep[0].kind == "time"
    ]
    summary.add(f"{prefix}time.spearman", np.array(correlations))


def commanded_frames(commands: Sequence[Command]) -> np.ndarray:
    """The displacement d of each command in frames (M,): source minus target."""
    return np.array([float(command.source.frame - command.target.frame) for command in commands])


def format_quality(metrics: Mapping[str, float]) -> str:
    """Image quality as a table for a terminal: a row a score and system, a column a group of pairs."""
    groups = {"all": "{}", "small": "{}.small", "large": "{}.large"} | {kind: kind + ".{}" for kind in KINDS}
    groups |= {"known": "known_scene.{}", "new": "new_scene.{}"}
    rows = [["pairs", *(f"{metrics[pattern.format('num_pairs')]:.0f}" for pattern in groups.values())]]
    for metric, digits in (("psnr", 2), ("ssim", 3)):
        for prefix, label in LABELS.items():
            cells = [_cell(metrics, prefix + pattern.format(metric), digits) for pattern in groups.values()]
            if set(cells) != {"-"}:
                rows.append([f"{metric.upper()}, {label}", *cells])
    return format_rows(["", *groups], rows)


def format_control(metrics: Mapping[str, float]) -> str:
    """Control as a table for a terminal: a row a system, a column a metric, in the declared feature space."""
    columns = {
        "time: frames": ("time.mae_frames", 2),
        "spearman": ("time.spearman", 2),
        "azimuth°": ("view.azimuth_error_deg", 1),
        "joint top-1": ("joint.top1", 3),
        "leak: frames": ("leakage.time_frames", 2),
        "leak: azimuth°": ("leakage.azimuth_deg", 1),
    }
    rows = [
        [label, *(_cell(metrics, prefix + name, digits) for name, digits in columns.values())]
        for prefix, label in LABELS.items()
    ]
    return format_rows(["", *columns], [row for row in rows if set(row[1:]) != {"-"}])


def format_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text cells in columns as wide as their widest, the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in [header, *rows]
    )


def _cell(metrics: Mapping[str, float], name: str, digits: int) -> str:
    return f"{metrics[name]:.{digits}f}" if name in metrics else "-"


def bootstrap_interval(
    values: np.ndarray, num_bootstrap: int, rng: np.random.Generator, statistic: Callable = np.mean
) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic of `values` (N,), resampling them with replacement."""
    draws = rng.integers(len(values), size=(num_bootstrap, len(values)))
    low, high = np.quantile(statistic(values[draws], axis=1), [0.025, 0.975])
    return float(low), float(high)
