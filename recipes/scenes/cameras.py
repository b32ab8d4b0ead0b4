"""Calibrated cameras around the subject, and the poses_bounds.npy that describes them.

World: y up, the floor at y = 0, metres. `c2w` uses OpenCV axes: +x right, +y down, +z forward.
"""

from dataclasses import dataclass

import numpy as np

RING_ELEVATIONS_DEG = (6.0, 20.0, 12.0, 30.0) * 2  # at every 45 degrees, so that neighbours differ; linear in between
RING_FOV_DEG = 34.0
JITTERED_FOV_DEG = (26.0, 48.0)
JITTERED_ELEVATION_DEG = (-5.0, 50.0)
JITTERED_ZOOM_OUT = 1.22
JITTERED_LOOK_AT_M = 0.10
STANDING_FRACTION = 0.75  # of the picture's height, at most
MARGIN = 0.95  # share of the half picture that the subject may fill
NEAREST_EYE_M = 0.12  # above the floor


@dataclass(frozen=True)
class Camera:
    """A square pinhole camera: `c2w` (4, 4) OpenCV, `focal` and side `size` in pixels, centred principal point."""

    c2w: np.ndarray
    focal: float
    size: int

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points (N, 3) => pixels (N, 2) as x, y; the centre of the first pixel is (0.5, 0.5)."""
        in_camera = (points - self.c2w[:3, 3]) @ self.c2w[:3, :3]
        return in_camera[:, :2] / in_camera[:, 2:] * self.focal + self.size / 2


def ring_cameras(num_cameras: int, size: int, points: np.ndarray, height: float) -> list[Camera]:
    """Cameras at equal angles and the same distance, all looking at the centre of the subject's swept volume.

    Sixteen cameras are at the angles and elevations of eight, and half-way between them.

    `points` (N, 3): samples of the subject's surface over the clip; `height`: its standing height.
    """
    look_at = sweep_centre(points)
    azimuths = np.arange(num_cameras) * (2 * np.pi / num_cameras)
    knots = np.arange(len(RING_ELEVATIONS_DEG)) * (2 * np.pi / len(RING_ELEVATIONS_DEG))
    elevations = np.deg2rad(np.interp(azimuths, knots, RING_ELEVATIONS_DEG, period=2 * np.pi))
    directions = [_direction(azimuth, elevation) for azimuth, elevation in zip(azimuths, elevations, strict=True)]
    half = np.tan(np.deg2rad(RING_FOV_DEG) / 2)
    distance = max(fitting_distance(points, look_at, direction, half, height) for direction in directions)
    return [look_at_camera(look_at + distance * direction, look_at, half, size) for direction in directions]


def jittered_cameras(
    num_cameras: int, size: int, points: np.ndarray, height: float, generator: np.random.Generator
) -> list[Camera]:
    """A ring whose cameras each have their own azimuth, elevation, distance, field of view and look-at point."""
    centre = sweep_centre(points)
    first = generator.uniform(0, 2 * np.pi)
    cameras = []
    for index in range(num_cameras):
        azimuth = first + 2 * np.pi * (index + generator.uniform(-0.45, 0.45)) / num_cameras
        elevation = np.deg2rad(generator.uniform(*JITTERED_ELEVATION_DEG))
        half = np.tan(np.deg2rad(generator.uniform(*JITTERED_FOV_DEG)) / 2)
        look_at = centre + generator.uniform(-JITTERED_LOOK_AT_M, JITTERED_LOOK_AT_M, 3)
        zoom_out = generator.uniform(1.0, JITTERED_ZOOM_OUT)
        distance = zoom_out * fitting_distance(points, look_at, _direction(azimuth, elevation), half, height)
        # A camera that looks up must stay above the floor.
        elevation = max(elevation, -np.arcsin(min(1.0, (look_at[1] - NEAREST_EYE_M) / distance)))
        cameras.append(look_at_camera(look_at + distance * _direction(azimuth, elevation), look_at, half, size))
    return cameras


def sweep_centre(points: np.ndarray) -> np.ndarray:
    """The centre (3,) of the bounding box of `points` (N, 3)."""
    return (points.min(0) + points.max(0)) / 2


def fitting_distance(
    points: np.ndarray, look_at: np.ndarray, direction: np.ndarray, half: float, height: float
) -> float:
    """The smallest distance along `direction` at which a camera sees all `points` and a standing body is not too big.

    `half` is the tangent of half the field of view. A point is inside if |offset| <= (distance - nearness) · half.
    """
    axes = look_at_axes(-direction)
    right, down, forward = ((points - look_at) @ axes).T
    needed = np.maximum(np.abs(right), np.abs(down)) / (MARGIN * half) - forward
    return max(float(needed.max()), height / (2 * half * STANDING_FRACTION))


def look_at_axes(forward: np.ndarray) -> np.ndarray:
    """A viewing direction (3,) => the camera's right, down and forward axes in the world, as columns (3, 3)."""
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward], axis=1)


def look_at_camera(eye: np.ndarray, look_at: np.ndarray, half: float, size: int) -> Camera:
    """The camera at `eye` that looks at `look_at`; `half`: tangent of half its field of view."""
    c2w = np.eye(4)
    c2w[:3, :3] = look_at_axes(look_at - eye)
    c2w[:3, 3] = eye
    return Camera(c2w, size / (2 * half), size)


def poses_bounds(cameras: list[Camera], points: np.ndarray) -> np.ndarray:
    """LLFF rows (N, 17): 3 × 5 of [down, right, back | position | height, width, focal], then near and far depth."""
    rows = []
    for camera in cameras:
        right, down, forward, position = camera.c2w[:3].T
        size = np.array([camera.size, camera.size, camera.focal])
        matrix = np.stack([down, right, -forward, position, size], axis=1)
        depth = (points - position) @ forward
        rows.append(np.concatenate([matrix.ravel(), [0.9 * depth.min(), 1.1 * depth.max()]]))
    return np.array(rows)


def _direction(azimuth: float, elevation: float) -> np.ndarray:
    """Unit vector from the subject to a camera; azimuth 0 is +x (the subject's initial facing direction)."""
    return np.array([np.cos(azimuth) * np.cos(elevation), np.sin(elevation), np.sin(azimuth) * np.cos(elevation)])
