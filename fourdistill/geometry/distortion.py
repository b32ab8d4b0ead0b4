"""Lens distortion (Brown-Conrady k1, k2, p1, p2, k3, in OpenCV's order) and its inverse map."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def distort(normalized: ArrayLike, coefficients: ArrayLike) -> Array:
    """Ideal normalised image points (..., 2) => distorted ones (..., 2); coefficients (4,), with k3 (5,)."""
    normalized = np.asarray(normalized, np.float64)
    k1, k2, p1, p2, *rest = np.asarray(coefficients, np.float64)
    k3 = rest[0] if rest else 0.0
    x, y = normalized[..., 0], normalized[..., 1]
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2 * r2 + k3 * r2 * r2 * r2
    return np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        axis=-1,
    )


def undistortion_map(K: ArrayLike, size: tuple[int, int], K_distorted: ArrayLike, coefficients: ArrayLike) -> Array:
    """The position in the distorted image of each pixel centre of an ideal image.

    K belongs to the ideal image of `size` (width, height), `K_distorted` to the distorted one, which may have
    another size. Returns continuous image coordinates (height, width, 2) in the distorted image.
    """
    K, K_distorted = np.asarray(K, np.float64), np.asarray(K_distorted, np.float64)
    columns, rows = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    pixels = np.stack([columns, rows, np.ones_like(rows)], axis=-1)  # (h, w, 3)
    normalized = (pixels @ np.linalg.inv(K).T)[..., :2]
    return distort(normalized, coefficients) @ K_distorted[:2, :2].T + K_distorted[:2, 2]


def is_one_to_one(lookup: ArrayLike) -> bool:
    """Whether a map (h, w, 2) of pixels to coordinates never folds over, as polynomials do far from the axis."""
    lookup = np.asarray(lookup, np.float64)
    along_x, along_y = np.diff(lookup, axis=1)[:-1], np.diff(lookup, axis=0)[:, :-1]  # (h - 1, w - 1, 2)
    area = along_x[..., 0] * along_y[..., 1] - along_x[..., 1] * along_y[..., 0]
    return bool((area > 0).all())


def sample_bilinear(image: NDArray[np.uint8], coordinates: ArrayLike) -> NDArray[np.float32]:
    """Image (H, W, C) at continuous coordinates (h, w, 2) => (h, w, C); edge values are repeated outside."""
    coordinates = np.asarray(coordinates, np.float64)
    height, width = image.shape[:2]
    x = np.clip(coordinates[..., 0] - 0.5, 0, width - 1)  # pixel centres are at +0.5
    y = np.clip(coordinates[..., 1] - 0.5, 0, height - 1)
    left, top = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    x_weight = (x - left)[..., None].astype(np.float32)
    y_weight = (y - top)[..., None].astype(np.float32)
    upper = image[top, left] * (1 - x_weight) + image[top, right] * x_weight
    lower = image[bottom, left] * (1 - x_weight) + image[bottom, right] * x_weight
    return (upper * (1 - y_weight) + lower * y_weight).astype(np.float32, copy=False)
