"""Rigid poses: camera-to-world matrices with OpenCV axes, and conversions from other conventions.

A transform is named after both of its frames: `a_from_b` maps points from frame b to frame a, so `c2w` is
`world_from_camera`. Every function accepts any leading batch dimensions.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

_FLIP_YZ = np.diag([1.0, -1.0, -1.0])  # OpenGL camera axes (right, up, back) <=> OpenCV (right, down, forward)


def compose(rotation: ArrayLike, translation: ArrayLike) -> Array:
    """Rotation (..., 3, 3) and translation (..., 3) => rigid transform (..., 4, 4)."""
    rotation, translation = np.asarray(rotation, np.float64), np.asarray(translation, np.float64)
    transform = np.zeros((*rotation.shape[:-2], 4, 4))
    transform[..., :3, :3] = rotation
    transform[..., :3, 3] = translation
    transform[..., 3, 3] = 1
    return transform


def inverse(transform: ArrayLike) -> Array:
    """`a_from_b` (..., 4, 4) => `b_from_a`, for rigid transforms only: the rotation is transposed, not inverted."""
    transform = np.asarray(transform, np.float64)
    rotation = np.swapaxes(transform[..., :3, :3], -1, -2)
    return compose(rotation, -(rotation @ transform[..., :3, 3:])[..., 0])


def relative_pose(c2w_source: ArrayLike, c2w_target: ArrayLike) -> Array:
    """`source_from_target` = inv(c2w_source) @ c2w_target, (..., 4, 4), translation in the units of the poses."""
    return inverse(c2w_source) @ np.asarray(c2w_target, np.float64)


def is_rigid(transform: ArrayLike, tolerance: float = 1e-3) -> bool:
    """Whether every transform (..., 4, 4) is finite, its rotation orthonormal and right-handed, (0, 0, 0, 1) below."""
    transform = np.asarray(transform, np.float64)
    if transform.shape[-2:] != (4, 4) or not np.isfinite(transform).all():
        return False
    rotation = transform[..., :3, :3]
    if np.abs(rotation).max(initial=0) > 2:
        return False  # before its square overflows
    if np.abs(rotation @ np.swapaxes(rotation, -1, -2) - np.eye(3)).max(initial=0) > tolerance:
        return False  # before the determinant, which divides
    right_handed = (np.linalg.det(rotation) > 0).all()
    last_row = np.abs(transform[..., 3, :] - [0, 0, 0, 1]).max(initial=0)
    return bool(right_handed and last_row <= tolerance)


def distinct_poses(c2w: ArrayLike) -> Array:
    """Poses (N, 4, 4) of one camera, NaN where unknown => the known ones; a single one if the camera is static."""
    c2w = np.asarray(c2w, np.float64)
    known = c2w[np.isfinite(c2w).all(axis=(1, 2))]
    return known[:1] if len(known) and np.array_equal(known, np.broadcast_to(known[0], known.shape)) else known


def opengl_to_opencv(c2w: ArrayLike) -> Array:
    """c2w (..., 4, 4) with OpenGL camera axes (+x right, +y up, +z back) => OpenCV camera axes; same world axes."""
    c2w = np.array(c2w, np.float64)
    c2w[..., :3, :3] = c2w[..., :3, :3] @ _FLIP_YZ
    return c2w


def llff_to_opencv(poses: ArrayLike) -> Array:
    """LLFF/DyNeRF c2w (..., 3, 4), columns (down, right, back, centre) => c2w (..., 4, 4), OpenCV axes."""
    poses = np.asarray(poses, np.float64)
    down, right, back, center = np.moveaxis(poses[..., :3, :4], -1, 0)
    return compose(np.stack([right, down, -back], axis=-1), center)


def qualisys_to_opencv(rotation: ArrayLike, position_mm: ArrayLike) -> Array:
    """Qualisys `transform` => c2w (..., 4, 4) in metres.

    `rotation` (..., 3, 3) holds r11..r33 as the file prints them, row by row: `camera_from_world` with OpenGL
    camera axes; `position_mm` (..., 3) is the camera centre in millimetres.
    """
    w2c_rotation = _FLIP_YZ @ np.asarray(rotation, np.float64)
    return compose(np.swapaxes(w2c_rotation, -1, -2), np.asarray(position_mm, np.float64) / 1000)
