"""The coordinate frame of a scene's cameras: azimuth, elevation and radius about the scene's centre.

The centre is the point nearest to all optical axes. Up is the mean of the cameras' up vectors. The scale is the
median distance of the cameras from the centre. Azimuth is counter-clockwise seen from above; elevation is positive
upwards.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourdistill.geometry.poses import compose

Array = NDArray[np.float64]

_PARALLEL = 1e-6  # smallest relative eigenvalue of the axes' normal equations that still determines a point


@dataclass(frozen=True)
class SceneFrame:
    """`center` (3,) and `scale` in the units of the poses; `axes` (3, 3): rows east, north, up, orthonormal."""

    center: Array
    axes: Array
    scale: float


def fit_scene_frame(c2w: ArrayLike) -> SceneFrame | None:
    """Camera poses (N, 4, 4) => their scene's frame, or None if the optical axes are parallel (no unique centre)."""
    c2w = np.asarray(c2w, np.float64)
    if len(c2w) < 2:
        return None
    centers, forward = c2w[:, :3, 3], c2w[:, :3, 2]
    # Least squares over sum |(I - f f^T)(x - center)|^2: each projector removes the component along its axis.
    projectors = np.eye(3) - forward[:, :, None] * forward[:, None, :]  # (N, 3, 3)
    normal_matrix = projectors.sum(0)
    if np.linalg.eigvalsh(normal_matrix)[0] < _PARALLEL * len(c2w):
        return None
    center = np.linalg.solve(normal_matrix, (projectors @ centers[:, :, None]).sum(0))[:, 0]

    up = -c2w[:, :3, 1].mean(0)
    scale = float(np.median(np.linalg.norm(centers - center, axis=1)))
    if np.linalg.norm(up) < _PARALLEL or scale == 0:
        return None
    up = up / np.linalg.norm(up)
    # Only differences of azimuths matter, so the zero is arbitrary: take the most horizontal world axis.
    east = np.eye(3)[np.argmin(np.abs(up))]
    east = east - up * (east @ up)
    east = east / np.linalg.norm(east)
    return SceneFrame(center, np.stack([east, np.cross(up, east), up]), scale)


def spherical(frame: SceneFrame, c2w: ArrayLike) -> Array:
    """Poses (..., 4, 4) => (azimuth rad, elevation rad, radius over scene scale) of their centres, (..., 3)."""
    offset = (np.asarray(c2w, np.float64)[..., :3, 3] - frame.center) @ frame.axes.T  # (..., 3) east, north, up
    horizontal = np.hypot(offset[..., 0], offset[..., 1])
    return np.stack(
        [
            np.arctan2(offset[..., 1], offset[..., 0]),
            np.arctan2(offset[..., 2], horizontal),
            np.linalg.norm(offset, axis=-1) / frame.scale,
        ],
        axis=-1,
    )


def wrap_angle(angle: ArrayLike) -> Array:
    """Radians => the same angle in [-pi, pi]."""
    return np.pi - np.mod(np.pi - np.asarray(angle, np.float64), 2 * np.pi)


def spherical_delta(source: ArrayLike, target: ArrayLike) -> Array:
    """Spherical positions (..., 3) of source and target => target - source, azimuth wrapped to [-pi, pi]."""
    delta = np.asarray(target, np.float64) - np.asarray(source, np.float64)
    delta[..., 0] = wrap_angle(delta[..., 0])
    return delta


def orbit(frame: SceneFrame, c2w: ArrayLike, delta: ArrayLike) -> Array:
    """Move one pose (4, 4) rigidly about the scene's centre by `delta` (azimuth, elevation, radius over scale).

    The viewing direction relative to the centre is kept. `spherical_delta` of the two poses is `delta` as long as the
    elevation stays below 90 degrees.
    """
    c2w = np.asarray(c2w, np.float64)
    azimuth, _, radius = spherical(frame, c2w)
    delta_azimuth, delta_elevation, delta_radius = np.asarray(delta, np.float64)
    east, north, up = frame.axes
    # Tilt in the camera's own vertical plane first, then turn that plane about up.
    sideways = -np.sin(azimuth) * east + np.cos(azimuth) * north
    rotation = _rotation(up, delta_azimuth) @ _rotation(sideways, -delta_elevation)
    offset = rotation @ (c2w[:3, 3] - frame.center) * ((radius + delta_radius) / radius)
    return compose(rotation @ c2w[:3, :3], frame.center + offset)


def _rotation(axis: Array, angle: float) -> Array:
    """Rodrigues' formula: unit axis (3,), radians => rotation (3, 3)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
