"""New cameras between the real ones: azimuths between those of neighbours, elevation and radius interpolated.

Poses are in the scene's frame, as in `SceneImages`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourdistill.errors import InputError
from fourdistill.geometry.displacement import FRAME
from fourdistill.geometry.scene_frame import orbit, spherical, spherical_delta
from fourdistill.teacher.scene_images import SceneImages

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Gap:
    """Two neighbouring cameras (indices), counter-clockwise from above, and the angle between them in rad."""

    first: int
    second: int
    angle: float


@dataclass(frozen=True)
class NewCamera:
    """A camera in a gap, at a `share` in [0, 1] of the way from the first to the second camera."""

    gap: Gap
    share: float

    def K(self, scene: SceneImages) -> Floats:
        """The intrinsics (N, 3, 3) of the nearer camera."""
        return scene.K[self.gap.first if self.share <= 0.5 else self.gap.second]

    def c2w(self, scene: SceneImages) -> Floats:
        """The pose at every instant (N, 4, 4)."""
        pairs = zip(scene.c2w[self.gap.first], scene.c2w[self.gap.second], strict=True)
        return np.stack([pose_between(first, second, self.share) for first, second in pairs])


def find_gaps(scene: SceneImages) -> list[Gap]:
    """The gaps between neighbours, in order of azimuth at the first instant.

    There is nothing between two cameras that are half a turn or more apart: an arc of C cameras has C - 1 gaps.
    """
    azimuth = spherical(FRAME, scene.c2w[:, 0])[:, 0]
    order = np.argsort(azimuth, kind="stable")
    gaps = []
    for place, first in enumerate(order):
        second = order[(place + 1) % len(order)]
        angle = float(np.mod(azimuth[second] - azimuth[first], 2 * np.pi))
        if first != second and angle < np.pi - 1e-6:
            gaps.append(Gap(int(first), int(second), angle))
    if not gaps:
        raise InputError("teacher: expected neighbouring cameras less than half a turn apart, found none")
    return gaps


def draw_cameras(scene: SceneImages, num_cameras: int, rng: np.random.Generator) -> list[NewCamera]:
    """New cameras, spread evenly over the gaps by their angles and drawn at random places within equal parts of them.

    Over many scenes, displacements to them thus have a continuous density.
    """
    gaps = find_gaps(scene)
    angles, counts = np.array([gap.angle for gap in gaps]), np.zeros(len(gaps), int)
    for _ in range(num_cameras):
        counts[np.argmax(angles / (counts + 1))] += 1
    return [
        NewCamera(gap, float((part + rng.random()) / count))
        for gap, count in zip(gaps, counts, strict=True)
        for part in range(count)
    ]


def pose_between(first: ArrayLike, second: ArrayLike, share: float) -> Floats:
    """Two poses (4, 4) => the nearer one, moved about the centre to a share of the way between them."""
    there = spherical_delta(spherical(FRAME, first), spherical(FRAME, second))
    return orbit(FRAME, first, share * there) if share <= 0.5 else orbit(FRAME, second, (share - 1) * there)


def best_surrounded(scene: SceneImages) -> str:
    """The camera with the nearest neighbours on both sides, whose view is the easiest to infer from the others."""
    around = np.full((len(scene.cameras), 2), 2 * np.pi)
    for gap in find_gaps(scene):
        around[gap.first, 0] = around[gap.second, 1] = round(gap.angle, 6)
    return scene.cameras[int(np.argmin(around.sum(1)))]
