"""The background of a scene: a floor with a texture per instant, on which the cameras agree, and one colour beyond.

The temporal median of a camera contains a ghost of people who stay in place, and is not available for new cameras. A
floor is: its lit colour is the same for all cameras, and a shadow is that colour, darkened equally in all channels.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt
from scipy.signal import find_peaks

from fourdistill.errors import InputError
from fourdistill.geometry.camera import project
from fourdistill.teacher.pixel_rays import pixel_rays
from fourdistill.teacher.scene_images import SceneImages

Floats = NDArray[np.float32]

_LIT_QUANTILE = 0.85  # over time; high, because shadows and people are mostly darker than the lit floor
_SHADOW = (0.6, 1.08)  # range of brightness relative to the lit floor
_GREY = 0.07  # largest difference of that between the channels of a shadow
_AGREEMENT = 0.04  # largest difference of a channel between two cameras that see the same lit floor
_SIMILARITY = 0.1  # largest difference of a channel, if only one camera sees it


@dataclass(frozen=True)
class Backdrop:
    """`height` of the floor and `half` of its side, over scene scale; `texture` (N, n, n, 3), axes north and east.

    `color` (3,) is the colour beyond the floor. `times` (N,) are the instants of the textures.
    """

    height: float
    half: float
    texture: Floats
    color: Floats
    times: NDArray[np.float64]

    def at(self, time: float) -> Floats:
        """The floor's texture (n, n, 3) at a time in [0, 1], interpolated linearly between instants."""
        place = float(np.interp(time, self.times, np.arange(len(self.times))))
        before = min(int(place), len(self.times) - 2)
        weight = np.float32(place - before)
        return (1 - weight) * self.texture[before] + weight * self.texture[before + 1]

    def view(self, K: ArrayLike, c2w: ArrayLike, time: float, size: tuple[int, int]) -> Floats:
        """The background (H, W, 3) of a camera in the scene's frame."""
        cells = self.texture.shape[1]
        origin, directions = pixel_rays(K, c2w, size)
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = (self.height - origin[2]) / directions[:, 2]
            hit = origin[:2] + distance[:, None] * directions[:, :2]
        place = (hit + self.half) / (2 * self.half) * cells - 0.5  # in cells, of their centres
        on_floor = (distance > 0) & np.isfinite(place).all(-1) & (place >= 0).all(-1) & (place <= cells - 1).all(-1)
        place = np.where(on_floor[:, None], place, 0).astype(np.float32).reshape(*size, 2)
        picture = cv2.remap(self.at(time), place[..., 0], place[..., 1], cv2.INTER_LINEAR)
        picture[~on_floor.reshape(size)] = self.color
        return np.asarray(picture, np.float32)


def fit_backdrop(scene: SceneImages, height: float | None = None) -> Backdrop:
    """Fit a floor on which the cameras of a scene agree; its cells are one pixel wide at the scene's centre.

    `height` is over scene scale, from the centre; None: search for it.
    """
    half = 2 * half_view(scene)
    height = find_floor(scene, half) if height is None else height
    cells = int(np.ceil(2 * half / pixel_width(scene)))
    color = _color_beyond(scene, height, half)
    texture = _agreed_texture(_views_of_floor(scene, height, half, cells), color)
    return Backdrop(height, half, texture.astype(np.float16).astype(np.float32), color, scene.times)


def half_view(scene: SceneImages) -> float:
    """Half the width of a camera's view at the scene's centre, over scene scale."""
    return float(np.median(max(scene.size) / 2 / scene.K[..., 0, 0]))


def pixel_width(scene: SceneImages) -> float:
    """The width of a pixel at the scene's centre, over scene scale."""
    return float(np.median(1 / scene.K[..., 0, 0]))


def find_floor(scene: SceneImages, half: float, cells: int = 64, instants: int = 6) -> float:
    """The height, over scene scale, of the horizontal plane on which the cameras' views agree best.

    Raises `InputError` if there is no such height.
    """
    chosen = np.unique(np.linspace(0, len(scene.times) - 1, instants).round().astype(int))
    few = scene.without(instants=[index for index in range(len(scene.times)) if index not in chosen])
    heights = np.linspace(-half, 0.0, 41)
    cost = np.array([_disagreement(_views_of_floor(few, height, half / 2, cells)) for height in heights.tolist()])
    heights, cost = heights[np.isfinite(cost)], cost[np.isfinite(cost)]
    # The most prominent minimum: the cost also falls far below the floor, where views vary little.
    dips, facts = find_peaks(-cost, prominence=0, wlen=9)
    if not len(dips):
        raise InputError("teacher: expected a floor whose shadows the cameras agree on, found none; give its height")
    best, step = float(heights[dips[int(np.argmax(facts["prominences"]))]]), heights[1] - heights[0]
    finer: list[float] = np.linspace(best - step, best + step, 9).tolist()
    return min(finer, key=lambda height: _disagreement(_views_of_floor(few, height, half / 2, cells)))


def _disagreement(views: Floats) -> float:
    """Views (C, N, n, n, 3), NaN where unseen => how much shadows differ between cameras, about 1 if unrelated.

    A shadow lies on the floor, so it darkens one cell for all cameras; the lit floor is too smooth to show the height.
    """
    with np.errstate(all="ignore"), _quiet_nan():
        brightness, is_floor = _over_lit(views, _lit_floor(views)[:, None])
        darkening = np.where(is_floor, 1 - brightness, np.nan)  # (C, N, n, n); the figure is excluded
        seen_twice = np.isfinite(darkening).sum(0) >= 2
        if seen_twice.mean() < 0.25:
            return np.inf
        seen = darkening[:, seen_twice]
        return float(np.nanmean(np.nanvar(seen, 0)) / (np.nanvar(seen) + 1e-6))


def _views_of_floor(scene: SceneImages, height: float, half: float, cells: int) -> Floats:
    """The cells of a floor as each camera sees them: (C, N, n, n, 3), NaN outside the picture."""
    axis = (np.arange(cells) + 0.5) / cells * 2 * half - half
    east, north = np.meshgrid(axis, axis)
    points = np.stack([east, north, np.full_like(east, height)], -1).reshape(-1, 3)
    rows, columns = scene.size
    views = np.full((*scene.images.shape[:2], cells, cells, 3), np.nan, np.float32)
    for camera, instant in np.ndindex(*scene.images.shape[:2]):
        pixels, depth = project(scene.K[camera, instant], scene.c2w[camera, instant], points)
        inside = ((pixels > 1) & (pixels < [columns - 1, rows - 1])).all(-1) & (depth > 0)
        place = np.where(inside[:, None], pixels - 0.5, 0).astype(np.float32).reshape(cells, cells, 2)
        view = cv2.remap(scene.images[camera, instant], place[..., 0], place[..., 1], cv2.INTER_LINEAR)
        view[~inside.reshape(cells, cells)] = np.nan
        views[camera, instant] = view
    return views


def _color_beyond(scene: SceneImages, height: float, half: float) -> Floats:
    """The median colour of the pixels whose rays miss the floor, or of all pixels if none does."""
    colors = []
    for camera in range(len(scene.cameras)):
        origin, directions = pixel_rays(scene.K[camera, 0], scene.c2w[camera, 0], scene.size)
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = (height - origin[2]) / directions[:, 2]
            hit = origin[:2] + distance[:, None] * directions[:, :2]
        misses = ~((distance > 0) & (np.abs(hit) < half).all(-1))
        colors.append(scene.images[camera].reshape(len(scene.times), -1, 3)[:, misses].reshape(-1, 3))
    beyond = np.concatenate(colors)
    return np.median(beyond if len(beyond) else scene.images.reshape(-1, 3), 0).astype(np.float32)


def _agreed_texture(views: Floats, color: Floats) -> Floats:
    """Views (C, N, n, n, 3), NaN where unseen => texture (N, n, n, 3) of the floor, lit or in shadow."""
    with np.errstate(all="ignore"), _quiet_nan():
        lit = _agreed_lit(_lit_floor(views), color)
        _, is_floor = _over_lit(views, lit)
        texture = np.nanmedian(np.where(is_floor[..., None], views, np.nan), 0)
    agreed = (is_floor.sum(0) >= 2)[..., None] & np.isfinite(texture)
    return np.where(agreed, texture, lit)


def _agreed_lit(lit: Floats, color: Floats) -> Floats:
    """The lit floor in each camera's view (C, n, n, 3), and the colour beyond => the lit floor (n, n, 3).

    Someone who stays in place hides a distant cell from one camera at all times, and it may be the only camera that
    looks there. So where no two cameras agree, a view must be similar to the nearest cell where they do, or to `color`.
    """
    middle = np.nanmedian(lit, 0)
    agree = (np.abs(lit - middle).max(-1) < _AGREEMENT).sum(0) >= 2
    if not agree.any():
        return np.broadcast_to(color, middle.shape).astype(np.float32)
    place: Any = distance_transform_edt(~agree, return_distances=False, return_indices=True)
    nearest = middle[tuple(place)]
    similar = np.minimum(np.abs(lit - nearest).max(-1), np.abs(lit - color).max(-1)) < _SIMILARITY
    alone = np.nanmedian(np.where(similar[..., None], lit, np.nan), 0)
    alone = np.where(np.isnan(alone), nearest, alone)
    return np.where(agree[..., None], middle, alone).astype(np.float32)


def _over_lit(views: Floats, lit: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Views (C, N, n, n, 3), lit floor => brightness relative to the lit floor, and where the view may be floor."""
    ratio = views / np.maximum(lit, 1 / 255)
    brightness, is_grey = ratio.mean(-1), ratio.max(-1) - ratio.min(-1) < _GREY
    return brightness, is_grey & (brightness > _SHADOW[0]) & (brightness < _SHADOW[1])


def _lit_floor(views: Floats) -> Floats:
    """Views (C, N, n, n, 3) => the lit floor in each camera's view, (C, n, n, 3), NaN where it sees none."""
    ordered = np.sort(np.where(np.isnan(views), -1, views), axis=1)
    lit = ordered[:, int(_LIT_QUANTILE * views.shape[1])]
    return np.where(lit < 0, np.nan, lit)


def _quiet_nan():
    """Suppress NumPy's warnings about cells that no camera sees, which are expected."""
    return warnings.catch_warnings(action="ignore")
