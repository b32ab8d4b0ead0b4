"""Fit Gaussians to one scene by gradient descent; seeded, and resumable from a checkpoint.

They start at points of the visual hull of each instant. Nothing is split, cloned or pruned: the hull is dense, and the
background is known.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from fourdistill.geometry.camera import project
from fourdistill.teacher.backdrop import fit_backdrop
from fourdistill.teacher.batches import backgrounds_and_masks
from fourdistill.teacher.fit_state import FitState
from fourdistill.teacher.hull import Hull, carve_hull
from fourdistill.teacher.scene_images import SceneImages
from fourdistill.teacher.settings import Splatting
from fourdistill.teacher.splats.gaussians import Gaussians
from fourdistill.teacher.splats.rasterizer import Rasterize
from fourdistill.teacher.splats.splat_teacher import SplatTeacher

# Learning rates of 3D Gaussian splatting, for positions over scene scale; a larger one for colours, which are logits.
_RATES = {
    "means": 2e-4, "velocities": 1e-3, "quats": 1e-3, "log_scales": 5e-3, "opacities": 5e-2, "colors": 2e-2,
    "times": 1e-3, "log_durations": 5e-3,
}  # fmt: skip


@dataclass(frozen=True)
class Views:
    """All cameras at one instant: `images`, `backgrounds` (C, H, W, 3), `masks` (C, H, W), `viewmats`, `K`."""

    time: float
    images: Tensor
    backgrounds: Tensor
    masks: Tensor
    viewmats: Tensor
    K: Tensor


def fit_splats(
    scene: SceneImages,
    settings: Splatting,
    seed: int,
    rasterize: Rasterize,
    *,
    device: torch.device | str = "cuda",
    floor: float | None = None,
    checkpoint: Path | None = None,
    stop_after: int | None = None,
    quiet: bool = False,
) -> SplatTeacher:
    """Fit a scene; `floor` is the floor's height over scene scale, from the centre; None: search for it.

    With a checkpoint, an interrupted fit resumes. `stop_after` ends it after this number of passes, as if killed.
    Raises `InputError` if the checkpoint belongs to another fit.
    """
    backdrop = fit_backdrop(scene, floor)
    backgrounds, masks = backgrounds_and_masks(scene, backdrop)
    hull = carve_hull(scene, masks, backdrop.height)
    gaussians = start_gaussians(scene, hull, settings.num_splats, np.random.default_rng(seed)).to(device)
    views = [_views(scene, backgrounds, masks, instant, device) for instant in range(len(scene.times))]
    groups: list[dict[str, Any]] = [
        {"params": [value], "lr": settings.lr * _RATES[name]} for name, value in gaussians.named_parameters()
    ]
    state = FitState(gaussians, groups)
    identity = f"{settings} {seed} {hull.lattice} {len(views)} {len(gaussians.means)}"
    done = state.load(checkpoint, identity) if checkpoint and checkpoint.exists() else 0
    last = settings.passes if stop_after is None else min(stop_after, settings.passes)
    for number in tqdm(range(done, last), "fit", initial=done, total=settings.passes, unit="pass", disable=quiet):
        _one_pass(state, gaussians, views, rasterize, scene.size, settings, seed, number)
        if checkpoint and ((number + 1) % settings.checkpoint_passes == 0 or number + 1 == last):
            state.save(checkpoint, identity, number + 1)
    gaussians.load_state_dict(state.average)
    return SplatTeacher(scene.frame, scene.size, backdrop, gaussians.requires_grad_(False), rasterize)


def start_gaussians(scene: SceneImages, hull: Hull, num_splats: int, rng: np.random.Generator) -> Gaussians:
    """About `num_splats` Gaussians at random points of the hull, equally many at each instant, with seen colours."""
    lattice, each = hull.lattice.points(), max(1, num_splats // len(hull.times))
    points, colors, times = [], [], []
    for instant, time in enumerate(hull.times):
        inside = lattice[hull.occupied[instant].reshape(-1)]
        chosen = inside[rng.permutation(len(inside))[:each]]
        points.append(chosen)
        colors.append(_seen_colors(scene, instant, chosen))
        times.append(np.full(len(chosen), time))
    gap = 1 / max(1, len(hull.times) - 1)
    thinned = max(1.0, hull.occupied.sum() / sum(map(len, points))) ** (1 / 3)  # fewer points, so larger ones
    means, shades, when = (torch.from_numpy(np.concatenate(values)) for values in (points, colors, times))
    return Gaussians(means, shades, when, scale=0.5 * hull.lattice.spacing * thinned, duration=gap / 2)


def _seen_colors(scene: SceneImages, instant: int, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean colour of each point's pixels in all cameras, (P, 3)."""
    rows, columns = scene.size
    seen = []
    for camera in range(len(scene.cameras)):
        pixels, _ = project(scene.K[camera, instant], scene.c2w[camera, instant], points)
        column, row = np.floor(pixels).astype(int).T
        seen.append(scene.images[camera, instant][row.clip(0, rows - 1), column.clip(0, columns - 1)])
    return np.asarray(np.mean(seen, axis=0), np.float64)


def _views(
    scene: SceneImages,
    backgrounds: NDArray[np.float32],
    masks: NDArray[np.bool_],
    instant: int,
    device: torch.device | str,
) -> Views:
    arrays = [
        scene.images[:, instant], backgrounds[:, instant], masks[:, instant], np.linalg.inv(scene.c2w[:, instant]),
        scene.K[:, instant],
    ]  # fmt: skip
    tensors = (torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(device) for array in arrays)
    return Views(float(scene.times[instant]), *tensors)


def _one_pass(
    state: FitState,
    gaussians: Gaussians,
    views: list[Views],
    rasterize: Rasterize,
    size: tuple[int, int],
    settings: Splatting,
    seed: int,
    number: int,
) -> None:
    """Do one step per instant, on all cameras; the order depends only on seed and pass number."""
    order = np.random.default_rng([seed, number]).permutation(len(views))
    total = settings.passes * len(views)
    for place, instant in enumerate(order):
        step = number * len(views) + place
        state.set_rate(0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / total)))
        view = views[instant]
        color, alpha, _ = rasterize(gaussians.at(view.time), view.viewmats, view.K, size)
        image = color + (1 - alpha[..., None]) * view.backgrounds
        loss = (image - view.images).square().mean()
        loss = loss + settings.silhouette * (alpha - view.masks).square().mean()
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
        state.update_average(step + 1)
