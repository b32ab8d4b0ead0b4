"""Locate an image on the camera x time grid of its scene: the nearest true frame, and the position between frames.

The nearest cell locates an image in whole cells. Between cells, the feature space is assumed to be piecewise linear.
The image is projected onto the segments from its nearest cell to that cell's neighbours along one axis. The covered
share of a segment is the share of the step. A true frame covers none, so it is located exactly on its cell. An image
that is nearer to its own cell than to the neighbour covers at most half.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fourdistill.errors import InputError
from fourdistill.evaluation.protocol.command import FrameKey
from fourdistill.frames.scenes_table import read_frames
from fourdistill.geometry.displacement import Placement
from fourdistill.geometry.scene_frame import wrap_angle

MAX_AZIMUTH_STEP = np.pi / 3 + 1e-6  # rad, plus a margin for rounding; cameras further apart are not neighbours


@dataclass(frozen=True)
class Grid:
    """The N cells of one scene, one for each of its frames."""

    keys: list[FrameKey]
    frame: np.ndarray
    """Frame index (N,) int."""
    seen: Placement
    """(N,); NaN where no pose is known."""

    @property
    def seconds(self) -> np.ndarray:
        """Presentation time (N,) float64."""
        return self.seen.timestamp_s

    @property
    def spherical(self) -> np.ndarray:
        """Azimuth and elevation (rad), radius in scene scales (N, 3) float64; NaN where no pose is known."""
        return self.seen.spherical

    def index(self, key: FrameKey) -> int:
        """The cell of a frame; raises `InputError` if the grid does not have it."""
        try:
            return self.keys.index(key)
        except ValueError:
            raise InputError(f"{key.scene}: expected frame {key.frame} of camera {key.camera}, found none") from None

    def neighbours_in_time(self, cell: int) -> list[int]:
        """The frames of the same camera just before and just after."""
        same = [i for i, key in enumerate(self.keys) if key.camera == self.keys[cell].camera]
        return _beside(same, self.seconds[same], cell)

    def neighbours_in_view(self, cell: int) -> list[int]:
        """The nearest cameras by azimuth on either side at the same instant, at most `MAX_AZIMUTH_STEP` away."""
        same = [i for i, key in enumerate(self.keys) if key.frame == self.keys[cell].frame]
        offset = wrap_angle(self.spherical[same, 0] - self.spherical[cell, 0])
        near = [i for i, angle in zip(same, offset, strict=True) if abs(angle) <= MAX_AZIMUTH_STEP]
        return _beside(near, wrap_angle(self.spherical[near, 0] - self.spherical[cell, 0]), cell)


@dataclass(frozen=True)
class Located:
    """Positions of M located images."""

    cell: np.ndarray
    """The nearest cell (M,) int."""
    posed_cell: np.ndarray
    """The nearest cell whose camera's pose is known, if any (M,) int; usually the same."""
    frame: np.ndarray
    """Interpolated between cells (M,) float64, as are the next two."""
    seconds: np.ndarray
    spherical: np.ndarray
    """(M, 3), as in `Grid`."""
    distance: np.ndarray
    """To the nearest cell, in the feature space (M,)."""


def read_grids(frames_table: Path, scenes_table: Path, scenes: Sequence[str] | None = None) -> dict[str, Grid]:
    """Read the grids of the named scenes, by default of all; raises `InputError` if a table lacks one."""
    table, seen = read_frames(frames_table, scenes_table)
    names = np.array(table["scene"].to_pylist())
    if missing := sorted(set(scenes or ()) - set(names)):
        raise InputError(f"{frames_table}: scene: expected {missing[0]}, found none of its frames")
    columns = [table[name].to_pylist() for name in ("scene", "camera", "frame_index")]
    keys = [FrameKey(*key) for key in zip(*columns, strict=True)]
    grids = {}
    for scene in scenes or dict.fromkeys(names.tolist()):
        rows = np.flatnonzero(names == scene)
        of_scene = [keys[row] for row in rows]
        if not (np.isfinite(seen.time[rows]) & np.isfinite(seen.timestamp_s[rows])).all():
            raise InputError(f"{frames_table}: {scene}: timestamp_s, time: expected finite numbers")
        grids[scene] = Grid(of_scene, np.array([key.frame for key in of_scene]), seen[rows])
    return grids


def locate(features: np.ndarray, truth: np.ndarray, grid: Grid) -> Located:
    """Locate images by their features (M, D) among the features (N, D) of the grid's frames, by Euclidean distance.

    Of equally near cells, the first is taken.
    """
    features, truth = features.astype(np.float64), truth.astype(np.float64)
    squared = (features**2).sum(1)[:, None] + (truth**2).sum(1) - 2 * features @ truth.T  # (M, N)
    cell = squared.argmin(1)
    posed = np.isfinite(grid.spherical).all(axis=1)  # (N,)
    posed_cell = np.where(posed, squared, np.inf).argmin(1) if posed.any() else cell
    frame, seconds = grid.frame[cell].astype(np.float64), grid.seconds[cell].copy()
    angles = grid.spherical[posed_cell].copy()
    for row, (picture, nearest, nearest_posed) in enumerate(zip(features, cell, posed_cell, strict=True)):
        neighbour, share = _part_way(picture, truth, nearest, grid.neighbours_in_time(nearest))
        frame[row] += share * (grid.frame[neighbour] - grid.frame[nearest])
        seconds[row] += share * (grid.seconds[neighbour] - grid.seconds[nearest])
        neighbour, share = _part_way(picture, truth, nearest_posed, grid.neighbours_in_view(nearest_posed))
        step = grid.spherical[neighbour] - grid.spherical[nearest_posed]
        step[0] = wrap_angle(step[0])
        angles[row] += share * step
    distance = np.sqrt(np.take_along_axis(squared, cell[:, None], 1)[:, 0].clip(min=0))
    return Located(cell, posed_cell, frame, seconds, angles, distance)


def _part_way(picture: np.ndarray, truth: np.ndarray, nearest: int, neighbours: list[int]) -> tuple[int, float]:
    """The neighbour whose segment is nearest to the image (D,), and the covered share of it, in [0, 1/2]."""
    best, best_share, best_length = nearest, 0.0, 0.0
    for neighbour in neighbours:
        segment = truth[neighbour] - truth[nearest]
        length = np.linalg.norm(segment)
        if length == 0:
            continue
        covered = float((picture - truth[nearest]) @ segment / length)
        if covered > best_length:  # the longer the projection, the smaller the residual
            best, best_share, best_length = neighbour, min(covered / float(length), 0.5), covered
    return best, best_share


def _beside(cells: list[int], positions: np.ndarray, cell: int) -> list[int]:
    """The cells just before and just after `cell` by their positions."""
    if cell not in cells:  # without a pose there are no neighbours in view
        return []
    order = [cells[i] for i in np.argsort(positions, kind="stable")]
    place = order.index(cell)
    return order[max(place - 1, 0) : place] + order[place + 1 : place + 2]
