"""Scores of single pairs => flat, stably named means with bootstrap intervals.

A name is `[<system>.][<group>.]<metric>[.<size>][.ci_low|.ci_high]`: `psnr`, `time.psnr`, `new_scene.psnr`,
`psnr.large`, `baseline.copy.psnr.large`, `ceiling.vae.psnr.ci_low`. `gain.copy.` is the model minus the copy
baseline, pair by pair.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from fourdistill.data.tables import KINDS
from fourdistill.evaluation.commands import Command

Scores = Mapping[str, np.ndarray]
"""Metric => one value per pair, (N,)."""

MODEL, COPY, VAE, GAIN = "", "baseline.copy.", "ceiling.vae.", "gain.copy."


def summarise(
    systems: Mapping[str, Scores], commands: Sequence[Command], large: np.ndarray, *, num_bootstrap: int, seed: int
) -> dict[str, float]:
    """Means of every system over all pairs, kinds, sizes, new and known scenes, with 95 % intervals.

    Groups without pairs are left out.
    `systems` maps a prefix (`""`, `baseline.copy.`, ...) to its scores; `large` (N,) says which pairs lead far.
    """
    kinds = np.array([command.kind for command in commands])
    groups = {"{}": np.ones(len(commands), bool), "{}.large": large, "{}.small": ~large}
    groups |= {kind + ".{}": kinds == kind for kind in KINDS}
    new_scene = np.array([command.new_scene for command in commands])
    groups |= {"new_scene.{}": new_scene, "known_scene.{}": ~new_scene}
    metrics: dict[str, float] = {}
    for pattern, members in groups.items():
        metrics[pattern.format("num_pairs")] = int(members.sum())
    for prefix, scores in systems.items():
        for metric, values in scores.items():
            for pattern, members in groups.items():
                if members.any():
                    name = prefix + pattern.format(metric)
                    low, high = bootstrap_interval(values[members], num_bootstrap, np.random.default_rng(seed))
                    metrics[name] = float(values[members].mean())
                    metrics[f"{name}.ci_low"], metrics[f"{name}.ci_high"] = low, high
    return {name: round(value, 4) for name, value in metrics.items()}


def format_table(metrics: Mapping[str, float]) -> str:
    """The means of a summary as a table for a terminal: a row a score and system, a column a group of pairs."""
    groups = {"all": "{}", "small": "{}.small", "large": "{}.large"} | {kind: kind + ".{}" for kind in KINDS}
    groups |= {"known": "known_scene.{}", "new": "new_scene.{}"}
    systems = {"generated": MODEL, "copy the condition": COPY, "truth through the VAE": VAE}
    lines = [f"{'':28}" + "".join(f"{group:>8}" for group in groups)]
    lines.append(f"{'pairs':28}" + "".join(f"{metrics[p.format('num_pairs')]:8.0f}" for p in groups.values()))
    for metric, digits in (("psnr", 2), ("ssim", 3)):
        for label, prefix in systems.items():
            values = [metrics.get(prefix + pattern.format(metric)) for pattern in groups.values()]
            cells = [f"{'-':>8}" if value is None else f"{value:8.{digits}f}" for value in values]
            lines.append(f"{metric.upper() + ', ' + label:28}" + "".join(cells))
    return "\n".join(lines)


def bootstrap_interval(values: np.ndarray, num_bootstrap: int, rng: np.random.Generator) -> tuple[float, float]:
    """The 95 % percentile interval of the mean of `values` (N,), resampling pairs with replacement."""
    draws = rng.integers(len(values), size=(num_bootstrap, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)
