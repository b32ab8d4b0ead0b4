"""Did the commanded displacement happen? Errors of time and view, leakage between the two, and rank correlation.

A generated image is located on its scene's grid (`retrieval`). Its error is the distance between the located position
and the commanded target. An axis that was not commanded should not change. The time error of an image for which only
the view was commanded is therefore leakage, and so is the view error of one for which only time was commanded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torchmetrics.functional import spearman_corrcoef

from fourdistill.evaluation.metrics.retrieval import Grid, Located, locate
from fourdistill.evaluation.protocol.command import Command
from fourdistill.geometry.scene_frame import wrap_angle


@dataclass(frozen=True)
class Outcomes:
    """Outcomes of M commands, one value each; NaN where a pose is unknown."""

    frames: np.ndarray
    """Located frame index minus the commanded one (M,), signed, as are the next three."""
    seconds: np.ndarray
    azimuth: np.ndarray
    """Degrees, along the shorter arc."""
    elevation: np.ndarray
    """Degrees."""
    hit: np.ndarray
    """Whether the nearest cell is the target (M,) bool."""
    obtained_frames: np.ndarray
    """Obtained displacement in time: frame index of the nearest cell minus that of the source (M,)."""
    obtained_azimuth: np.ndarray
    """Azimuth of the nearest posed cell minus the source's, degrees."""
    cell: np.ndarray
    """Index of the nearest cell in its scene's grid (M,) int."""

    def __getitem__(self, rows: np.ndarray) -> "Outcomes":
        """The outcomes of some of the commands."""
        return Outcomes(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def outcomes(
    commands: Sequence[Command],
    features: np.ndarray,
    grids: Mapping[str, Grid],
    truth: Mapping[str, np.ndarray],
) -> Outcomes:
    """Locate the images of `commands` by their features (M, D) among those of their scenes' frames (N, D)."""
    columns = np.full((len(fields(Outcomes)), len(commands)), np.nan)
    scenes = np.array([command.target.scene for command in commands])
    for scene in np.unique(scenes):
        rows, grid = np.flatnonzero(scenes == scene), grids[scene]
        found = locate(features[rows], truth[scene], grid)
        target = np.array([grid.index(commands[int(row)].target) for row in rows])
        source = np.array([grid.index(commands[int(row)].source) for row in rows])
        columns[:, rows] = _compare(found, grid, source, target)
    found = dict(zip([field.name for field in fields(Outcomes)], columns, strict=True))
    return Outcomes(**found | {"hit": found["hit"] == 1, "cell": found["cell"].astype(int)})


def _compare(found: Located, grid: Grid, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The fields of `Outcomes` for one scene, as rows (8, M)."""
    degrees = 180 / np.pi
    return np.stack(
        [
            found.frame - grid.frame[target],
            found.seconds - grid.seconds[target],
            wrap_angle(found.spherical[:, 0] - grid.spherical[target, 0]) * degrees,
            (found.spherical[:, 1] - grid.spherical[target, 1]) * degrees,
            found.cell == target,
            grid.frame[found.cell] - grid.frame[source],
            wrap_angle(grid.spherical[found.posed_cell, 0] - grid.spherical[source, 0]) * degrees,
            found.cell,
        ]
    )


def control_values(commands: Sequence[Command], result: Outcomes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Metric name => the values (K,) whose mean is the metric, and the indices (K,) of their commands; may be empty.

    `time.*` covers commands of time, `view.*` commands of the view, `joint.top1` commands of both. `leakage.*` covers
    commands of only the other axis.
    """
    kinds = np.array([command.kind for command in commands])
    in_time, in_view = kinds != "view", kinds != "time"
    posed = np.isfinite(result.azimuth)
    of = {
        "time.mae_frames": (np.abs(result.frames), in_time),
        "time.mae_s": (np.abs(result.seconds), in_time),
        "time.top1": (result.hit, kinds == "time"),
        "view.azimuth_error_deg": (np.abs(result.azimuth), in_view & posed),
        "view.elevation_error_deg": (np.abs(result.elevation), in_view & posed),
        "view.top1": (result.hit, kinds == "view"),
        "joint.top1": (result.hit, kinds == "joint"),
        "leakage.time_frames": (np.abs(result.frames), kinds == "view"),
        "leakage.azimuth_deg": (np.abs(result.azimuth), (kinds == "time") & posed),
    }
    return {name: (values[rows].astype(float), np.flatnonzero(rows)) for name, (values, rows) in of.items()}


def sweep_correlation(commanded: np.ndarray, obtained: np.ndarray) -> float:
    """Spearman's rank correlation of a sweep; ties share their mean rank; 0 if nothing moved."""
    if np.ptp(obtained) == 0 or np.ptp(commanded) == 0:
        return 0.0  # the coefficient would be 0/0; a static sequence follows no command
    value = spearman_corrcoef(torch.from_numpy(obtained).double(), torch.from_numpy(commanded).double())
    return float(value)
