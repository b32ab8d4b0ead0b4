"""The visual hull of every instant: the lattice points that project to foreground in all cameras."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_dilation

from fourdistill.errors import InputError
from fourdistill.geometry.camera import project
from fourdistill.teacher.backdrop import half_view, pixel_width
from fourdistill.teacher.lattice import Lattice, lattice_over
from fourdistill.teacher.scene_images import SceneImages

Mask = NDArray[np.bool_]

SPACING = 1.1
"""Lattice spacing, over the width of a pixel at the scene's centre."""
_COARSE = 2.5  # times that spacing, to find the box around the hulls
_CUBE = np.ones((3, 3, 3), bool)
_WITHIN = 4  # lattice steps: between two instants, the foreground is assumed to stay this close to their hulls


@dataclass(frozen=True)
class Hull:
    """`occupied` (N, X, Y, Z): the lattice points in the hull at each of the instants `times` (N,)."""

    lattice: Lattice
    occupied: Mask
    times: NDArray[np.float64]

    def at(self, time: float) -> Mask:
        """Occupied points (X, Y, Z) at a time in [0, 1]; between two instants, all points near either hull."""
        place = float(np.interp(time, self.times, np.arange(len(self.times))))
        nearest = round(place)
        if abs(place - nearest) < 1e-3:
            return self.occupied[nearest]
        either = self.occupied[int(place)] | self.occupied[int(place) + 1]
        return np.asarray(binary_dilation(either, _CUBE, iterations=_WITHIN), bool)


def carve_hull(scene: SceneImages, masks: Mask, floor: float) -> Hull:
    """Foreground (C, N, H, W) => the hull above a floor of that height, in the smallest sufficient lattice.

    Raises `InputError` if the cameras' foregrounds do not meet in one place at any instant.
    """
    reach, spacing = 1.25 * half_view(scene), SPACING * pixel_width(scene)
    coarse = lattice_over([-reach, -reach, floor], [reach, reach, reach], _COARSE * spacing).points()
    instants = range(len(scene.times))
    found = np.concatenate([coarse[inside_all(scene, masks, instant, coarse)] for instant in instants])
    if not len(found):
        raise InputError("teacher: expected a foreground that the cameras see in one place, found none")
    margin = 2 * _COARSE * spacing
    low, high = found.min(0) - margin, found.max(0) + margin
    low[2] = max(low[2], floor - spacing)
    lattice = lattice_over(low, high, spacing)
    points = lattice.points()
    occupied = [inside_all(scene, masks, instant, points).reshape(lattice.shape) for instant in instants]
    return Hull(lattice, np.stack(occupied), scene.times)


def inside_all(scene: SceneImages, masks: Mask, instant: int, points: ArrayLike) -> Mask:
    """Points (P, 3) => whether every camera sees foreground there at an instant, (P,).

    A point outside a picture uses its nearest pixel: it is kept only where the figure extends beyond the picture.
    """
    points = np.asarray(points, np.float64)
    kept = np.arange(len(points))
    rows, columns = scene.size
    for camera, mask in enumerate(masks[:, instant]):
        pixels, depth = project(scene.K[camera, instant], scene.c2w[camera, instant], points[kept])
        pixels = np.nan_to_num(pixels, posinf=0, neginf=0)
        column, row = np.floor(pixels).astype(int).T
        kept = kept[mask[row.clip(0, rows - 1), column.clip(0, columns - 1)] & (depth > 0)]
    inside = np.zeros(len(points), bool)
    inside[kept] = True
    return inside


def with_neighbours(occupied: Mask) -> Mask:
    """Points (X, Y, Z) of a hull => those and their 26 neighbours, from which samples near it are interpolated."""
    return np.asarray(binary_dilation(occupied, _CUBE), bool)
