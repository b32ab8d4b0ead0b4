"""The data that a step of the fit needs for one instant, computed once."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fourdistill.teacher.backdrop import Backdrop
from fourdistill.teacher.hull import Hull
from fourdistill.teacher.masks import foreground_mask
from fourdistill.teacher.rays import RaySamples, Vertices, hull_vertices, sample_rays
from fourdistill.teacher.scene_images import SceneImages


@dataclass(frozen=True)
class Batch:
    """The rays of all cameras at one instant; `target`, `background` (R, 3); `mask`, `is_sure` (R,) 0 or 1.

    `is_sure` is 0 for rays on the outline of the mask. `neighbours` (2, P) are the numbers of adjacent vertices.
    """

    vertices: Vertices
    samples: RaySamples
    target: Tensor
    background: Tensor
    mask: Tensor
    is_sure: Tensor
    neighbours: Tensor


def backgrounds_and_masks(scene: SceneImages, backdrop: Backdrop) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Backgrounds (C, N, H, W, 3) and foreground masks (C, N, H, W) of all frames."""
    backgrounds, masks = np.empty_like(scene.images), np.empty(scene.images.shape[:-1], bool)
    for cell in np.ndindex(*masks.shape[:2]):
        backgrounds[cell] = backdrop.view(scene.K[cell], scene.c2w[cell], float(scene.times[cell[1]]), scene.size)
        masks[cell] = foreground_mask(scene.images[cell], backgrounds[cell])
    return backgrounds, masks


def make_batch(
    scene: SceneImages, backgrounds: NDArray[np.float32], masks: NDArray[np.bool_], hull: Hull, instant: int
) -> Batch:
    """Gather the rays of one instant."""
    occupied = hull.occupied[instant]
    vertices = hull_vertices(occupied)
    cameras = list(zip(scene.K[:, instant], scene.c2w[:, instant], strict=True))
    samples = sample_rays(hull.lattice, occupied, vertices, cameras, scene.size)
    seen = masks[:, instant].astype(np.uint8)
    kernel = np.ones((3, 3), np.uint8)
    is_sure = np.stack([cv2.erode(mask, kernel) == cv2.dilate(mask, kernel) for mask in seen])

    def of_rays(pictures: NDArray) -> Tensor:
        flat = torch.from_numpy(np.ascontiguousarray(pictures, np.float32).reshape(len(pictures), seen[0].size, -1))
        return flat[samples.camera, samples.pixel].squeeze(-1)

    return Batch(
        vertices,
        samples,
        of_rays(scene.images[:, instant]),
        of_rays(backgrounds[:, instant]),
        of_rays(seen),
        of_rays(is_sure),
        _neighbours(vertices),
    )


def _neighbours(vertices: Vertices) -> Tensor:
    number, pairs = vertices.number, []
    for axis in range(3):
        first = np.take(number, np.arange(number.shape[axis] - 1), axis)
        second = np.take(number, np.arange(1, number.shape[axis]), axis)
        both = (first >= 0) & (second >= 0)
        pairs.append(np.stack([first[both], second[both]]))
    return torch.from_numpy(np.concatenate(pairs, 1))
