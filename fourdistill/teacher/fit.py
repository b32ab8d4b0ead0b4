"""Fit one scene: backdrop, hull, then the planes by gradient descent; seeded, and resumable from a checkpoint."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from fourdistill.teacher.backdrop import fit_backdrop
from fourdistill.teacher.batches import Batch, backgrounds_and_masks, make_batch
from fourdistill.teacher.fit_state import FitState
from fourdistill.teacher.hull import carve_hull
from fourdistill.teacher.kplanes import KPlanes
from fourdistill.teacher.reconstruction import Reconstruction
from fourdistill.teacher.scene_images import SceneImages
from fourdistill.teacher.settings import Fit
from fourdistill.teacher.volume import render_rays


def fit_reconstruction(
    scene: SceneImages,
    settings: Fit,
    seed: int,
    *,
    floor: float | None = None,
    checkpoint: Path | None = None,
    stop_after: int | None = None,
    quiet: bool = False,
) -> Reconstruction:
    """Fit a scene; `floor` is the floor's height over scene scale, from the centre; None: search for it.

    With a checkpoint, an interrupted fit resumes and gives the same result. `stop_after` ends it after this number of
    passes, as if killed. Raises `InputError` if the checkpoint belongs to another fit.
    """
    backdrop = fit_backdrop(scene, floor)
    backgrounds, masks = backgrounds_and_masks(scene, backdrop)
    hull = carve_hull(scene, masks, backdrop.height)
    batches = [make_batch(scene, backgrounds, masks, hull, instant) for instant in range(len(scene.times))]
    planes = KPlanes(hull.lattice.shape, len(batches), torch.Generator().manual_seed(seed))
    groups: list[dict[str, Any]] = [
        {"params": [*planes.space, *planes.time], "lr": settings.lr},
        {"params": list(planes.decoder.parameters()), "lr": settings.lr / 10},
    ]
    state = FitState(planes, groups)
    identity = f"{settings} {seed} {hull.lattice} {len(batches)} {int(hull.occupied.sum())}"
    done = state.load(checkpoint, identity) if checkpoint and checkpoint.exists() else 0
    last = settings.passes if stop_after is None else min(stop_after, settings.passes)
    for number in tqdm(range(done, last), "fit", initial=done, total=settings.passes, unit="pass", disable=quiet):
        _one_pass(state, planes, batches, settings, seed, number)
        if checkpoint and ((number + 1) % settings.checkpoint_passes == 0 or number + 1 == last):
            state.save(checkpoint, identity, number + 1)
    planes.load_state_dict(state.average)
    return Reconstruction(scene.frame, scene.size, backdrop, hull, planes.requires_grad_(False))


def _one_pass(state: FitState, planes: KPlanes, batches: list[Batch], settings: Fit, seed: int, number: int) -> None:
    """Do one step per instant; the random order depends only on seed and pass number, so that a fit can resume."""
    order = np.random.default_rng([seed, number]).permutation(len(batches))
    generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
    total = settings.passes * len(batches)
    for place, instant in enumerate(order):
        if not batches[instant].neighbours.numel():
            continue  # nobody is there at this instant
        step = number * len(batches) + place
        warm_up, cosine = min(1.0, (step + 1) / 50), 0.5 * (1 + math.cos(math.pi * step / total))
        state.set_rate(warm_up * (0.02 + 0.98 * cosine))
        loss = _loss(planes, batches[instant], int(instant), settings, generator)
        if step % 4 == 0:  # roughness changes slowly, and costs a tenth of a step
            space, time = planes.roughness()
            loss = loss + 4 * (settings.space * space + settings.time * time)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
        if step % 4 == 3:
            state.update_average(step + 1)


def _loss(planes: KPlanes, batch: Batch, instant: int, settings: Fit, generator: torch.Generator) -> Tensor:
    """Loss: squared error of the colours, of the silhouette where it is sure, and differences between neighbours."""
    raw = planes(batch.vertices.index, float(instant))
    color, alpha, _ = render_rays(batch.samples, raw, batch.background)
    loss = (color - batch.target).square().mean()
    loss = loss + settings.silhouette * ((alpha - batch.mask).square() * batch.is_sure).mean()
    pairs = batch.neighbours.shape[1]
    first, second = batch.neighbours[:, torch.randint(pairs, (pairs // 3,), generator=generator)]
    values = torch.sigmoid(raw)
    change = (F.embedding(first, values) - F.embedding(second, values)).abs()
    return loss + settings.neighbours * (change[:, 0].mean() + change[:, 1:].mean())
