"""Do the images of an orbit look as if taken from the commanded poses? Measured by structure from motion.

Protocol, for every camera sweep with its N images and the true poses of its targets:

1. COLMAP poses all generated images of a sweep together (`poses.structure_from_motion`) with one pinhole camera. The
   intrinsics come from the frames table if they are known and the same for all targets, and are estimated otherwise.
2. Only the largest reconstruction counts. Images outside it are failures: they are counted in `pose.failure_rate` and
   have no errors. An orbit with fewer than three registered images fails as a whole.
3. Both sets of poses are expressed relative to the first registered image, the reference. It therefore has no error
   and is left out of the means.
4. Both sets of translations are divided by their mean length over the registered images, because structure from
   motion cannot determine scale.
5. Rotation error: the angle of R_generated R_true^T. Direction error: the angle between the two translations,
   undefined if the true one is shorter than a thousandth of the mean. Translation error: the length of their
   difference. Angles are in degrees; means are over images.

The same metrics for true frames reconstructed by the VAE (`ceiling.vae.pose.*`) show whether there is enough texture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from fourdistill.evaluation.metrics.summary import Summary
from fourdistill.evaluation.protocol.command import Command, FrameKey
from fourdistill.geometry.camera import resize
from fourdistill.poses.structure_from_motion import MIN_PICTURES, import_pycolmap, reconstruct
from fourdistill.tables import FRAMES, read_table

SHORT = 1e-3  # share of the mean distance from the reference; shorter translations have no direction


@dataclass(frozen=True)
class PoseErrors:
    """Pose errors of N images; NaN for the reference and for unregistered images."""

    registered: np.ndarray
    """(N,) bool; all False if fewer than three are registered."""
    rotation_deg: np.ndarray
    direction_deg: np.ndarray
    translation: np.ndarray
    """In units of the mean distance from the reference."""


def pose_errors(c2w: np.ndarray, truth: np.ndarray) -> PoseErrors:
    """Steps 3 to 5 of the protocol: c2w (N, 4, 4), NaN if not registered, against true poses (N, 4, 4)."""
    registered = np.asarray(np.isfinite(c2w).all(axis=(1, 2)))
    if registered.sum() < MIN_PICTURES:
        registered = np.zeros(len(c2w), bool)
    errors = PoseErrors(registered, *(np.full(len(c2w), np.nan) for _ in range(3)))
    if not registered.any():
        return errors
    rows = np.flatnonzero(registered)[1:]
    found, true = (_relative(poses[registered])[1:] for poses in (c2w, truth))  # (M - 1, 4, 4)
    rotation = found[:, :3, :3] @ np.swapaxes(true[:, :3, :3], 1, 2)  # (M - 1, 3, 3)
    errors.rotation_deg[rows] = np.degrees(np.arccos(((np.trace(rotation, axis1=1, axis2=2) - 1) / 2).clip(-1, 1)))
    a, b = found[:, :3, 3], true[:, :3, 3]
    lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    errors.translation[rows] = np.linalg.norm(a - b, axis=1)
    far = (lengths[0] > 0) & (lengths[1] > SHORT)
    cosine = (a * b).sum(1)[far] / (lengths[0] * lengths[1])[far]
    errors.direction_deg[rows[far]] = np.degrees(np.arccos(cosine.clip(-1, 1)))
    return errors


def _relative(c2w: np.ndarray) -> np.ndarray:
    """Poses (M, 4, 4) relative to the first. The others' translations have mean length 1, or 0 if none moves."""
    relative = np.linalg.inv(c2w[0]) @ c2w
    mean = np.linalg.norm(relative[1:, :3, 3], axis=1).mean()
    rounding = 1e-9 * np.abs(c2w[:, :3, 3]).max()
    relative[:, :3, 3] = relative[:, :3, 3] / mean if mean > rounding else 0
    return relative


class OrbitScorer:
    """Steps 1 and 2: pose generated orbits and compare them with the poses of the frames table."""

    def __init__(self, frames_table: Path, size: int, seed: int):
        """Images are (size, size). Raises `InputError` if pycolmap is not installed."""
        import_pycolmap()
        rows = read_table(frames_table, FRAMES).to_pylist()
        self._rows = {FrameKey(row["scene"], row["camera"], row["frame_index"]): row for row in rows}
        self._size, self._seed = size, seed

    def __call__(self, commands: Sequence[Command], images: Sequence[Image.Image]) -> PoseErrors:
        """Score one camera sweep whose targets all have poses; see `has_poses`."""
        rows = [self._rows[command.target] for command in commands]
        truth = np.array([row["c2w"] for row in rows], np.float64).reshape(-1, 4, 4)
        return pose_errors(reconstruct(images, self._intrinsics(rows), seed=self._seed).c2w, truth)

    def has_poses(self, commands: Sequence[Command]) -> bool:
        """Whether every target's pose is known."""
        return all(self._rows[command.target]["c2w"] is not None for command in commands)

    def _intrinsics(self, rows: Sequence[dict]) -> np.ndarray | None:
        """K (3, 3) shared by all targets at the image size; None if unknown or not the same."""
        if any(row["K"] is None for row in rows):
            return None
        new_size = self._size, self._size
        every = np.stack([resize(np.reshape(r["K"], (3, 3)), (r["width"], r["height"]), new_size) for r in rows])
        return every[0] if np.allclose(every, every[0], rtol=1e-6) else None


def summarise_orbits(
    prefix: str,
    sweeps: Sequence[Sequence[Command]],
    images: Sequence[Image.Image],
    score: OrbitScorer,
    summary: Summary,
) -> None:
    """Add `pose.*` of one system over camera sweeps with true poses; `images` are in the order of all commands."""
    starts = np.cumsum([0, *map(len, sweeps)])
    orbits = [
        (sweep, images[start : start + len(sweep)])
        for start, sweep in zip(starts, sweeps, strict=False)
        if sweep[0].kind == "view" and score.has_poses(sweep)
    ]
    found = [score(*orbit) for orbit in tqdm(orbits, desc=f"poses, {prefix.rstrip('.') or 'model'}", disable=None)]
    if not found:
        return
    figures = {"rotation_error_deg": "rotation_deg", "direction_error_deg": "direction_deg"}
    orbit = np.repeat(np.arange(len(found)), [len(errors.registered) for errors in found])
    for name, field in (figures | {"translation_error": "translation"}).items():
        values = np.concatenate([getattr(errors, field) for errors in found])
        finite = np.isfinite(values)
        summary.add(f"{prefix}pose.{name}", values[finite], groups=orbit[finite])
    failed = np.concatenate([~errors.registered for errors in found]).astype(float)
    summary.add(f"{prefix}pose.failure_rate", failed, groups=orbit)
