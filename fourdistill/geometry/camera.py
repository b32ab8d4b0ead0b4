"""Pinhole intrinsics K (3, 3) in pixels, their change under a resize or a crop, and projection.

The pixel convention everywhere: image coordinates are continuous, the image spans [0, width] x [0, height], and the
integer pixel (i, j) has its centre at (i + 0.5, j + 0.5). So a resize scales K without half-pixel terms.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourdistill.geometry.poses import inverse

Array = NDArray[np.float64]
Size = tuple[int, int]  # (width, height) in pixels


def intrinsics(fx: float, fy: float, cx: float, cy: float) -> Array:
    """Focal lengths and principal point in pixels => K (3, 3)."""
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)


def resize(K: ArrayLike, size: Size, new_size: Size) -> Array:
    """K of an image of `size` => K after that image is stretched to `new_size`."""
    return np.diag([new_size[0] / size[0], new_size[1] / size[1], 1.0]) @ np.asarray(K, np.float64)


def crop(K: ArrayLike, left: float, top: float) -> Array:
    """K => K after `left` columns and `top` rows are cut off (negative: padded)."""
    K = np.array(K, np.float64)
    K[..., 0, 2] -= left
    K[..., 1, 2] -= top
    return K


def turn(K: ArrayLike, size: Size) -> tuple[Array, Array]:
    """K of an image of `size` => K after a quarter turn clockwise, and the rotation (3, 3) `turned_from_camera`.

    The c2w of the turned camera is `c2w @ turned_from_camera.T`: it projects a world point to its pixel in the turned
    image.
    """
    turned_from_camera = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    turned_from_pixel = np.array([[0, -1, size[1]], [1, 0, 0], [0, 0, 1.0]])  # x = height - y
    return turned_from_pixel @ np.asarray(K, np.float64) @ turned_from_camera.T, turned_from_camera


def letterbox(K: ArrayLike, size: Size, new_size: Size) -> tuple[Array, float]:
    """K of an image of `size` => K after it is letterboxed (centred) into `new_size`, and the padded fraction.

    Video tools do this when a format requires another size: one scale for both axes, bars on two sides. A large
    padded fraction tells the caller that the two sizes do not match.
    """
    scale = min(new_size[0] / size[0], new_size[1] / size[1])
    width, height = size[0] * scale, size[1] * scale
    scaled = np.diag([scale, scale, 1.0]) @ np.asarray(K, np.float64)
    fitted = crop(scaled, (width - new_size[0]) / 2, (height - new_size[1]) / 2)
    return fitted, 1 - (width * height) / (new_size[0] * new_size[1])


def project(K: ArrayLike, c2w: ArrayLike, points: ArrayLike) -> tuple[Array, Array]:
    """World points (N, 3) => pixels (N, 2) and depths (N,) along +z; depths <= 0 are not in front of the camera."""
    w2c = inverse(c2w)
    camera_points = np.asarray(points, np.float64) @ w2c[:3, :3].T + w2c[:3, 3]  # (N, 3)
    depth = camera_points[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        normalized = camera_points[:, :2] / depth[:, None]
    K = np.asarray(K, np.float64)
    return normalized @ K[:2, :2].T + K[:2, 2], depth
