"""The rays of a camera's pixels."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def pixel_rays(K: ArrayLike, c2w: ArrayLike, size: tuple[int, int]) -> tuple[Floats, Floats]:
    """K (3, 3), pose (4, 4), (height, width) => the origin (3,) and unit directions (H * W, 3), row-major."""
    c2w = np.asarray(c2w, np.float64)
    rows, columns = np.mgrid[: size[0], : size[1]]
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(size)], -1).reshape(-1, 3)
    directions = pixels @ np.linalg.inv(np.asarray(K, np.float64)).T @ c2w[:3, :3].T
    return c2w[:3, 3], directions / np.linalg.norm(directions, axis=-1, keepdims=True)
