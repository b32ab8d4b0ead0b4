"""Camera displacements as users give them (degrees, or a relative pose) => both forms that a View Mapper may read.

One form is turned into the other about a canonical source camera: level, looking at the scene's centre from the
scene's scale away. Training data has its real cameras; here nothing more is known than the displacement.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourdistill.errors import InputError
from fourdistill.geometry.displacement import SceneFrame, orbit, spherical, spherical_delta
from fourdistill.geometry.poses import inverse, is_rigid

Array = NDArray[np.float64]
FRAME = SceneFrame(center=np.zeros(3), axes=np.eye(3), scale=1.0)  # rows east, north, up
SOURCE = np.array([[0.0, 0, -1, 1], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])  # at east 1, looking west, y down


def view_displacement(
    azimuth: float | None, elevation: float | None, radius: float | None, relative_pose: ArrayLike | None
) -> tuple[Array, Array] | None:
    """One displacement => (spherical (3,): rad, rad, over scale; rows of the 3x4 `source_from_target` (12,)).

    `azimuth` and `elevation` in degrees, `radius` a difference over the scene's scale; what is None is zero, and None
    is returned when all are. `relative_pose` is (3, 4) or (4, 4), translation over the scene's scale; it excludes the
    other three. Raises `InputError`.
    """
    angles = {"azimuth": azimuth, "elevation": elevation, "radius": radius}
    given = [name for name, value in angles.items() if value is not None]
    if relative_pose is not None:
        if given:
            raise InputError(f"relative_pose: expected no {given[0]} beside it")
        pose = check_pose(relative_pose)
        delta = spherical_delta(spherical(FRAME, SOURCE), spherical(FRAME, SOURCE @ pose))
        return delta, pose[:3].reshape(12)
    if not given:
        return None
    values = np.array([0.0 if value is None else value for value in angles.values()])
    if not np.isfinite(values).all():
        raise InputError(f"azimuth, elevation, radius: expected finite numbers, got {values.tolist()}")
    if values[2] <= -1:
        raise InputError(f"radius: expected a difference above -1 scene scales, got {radius}")
    delta = np.array([*np.radians(values[:2]), values[2]])
    pose = inverse(SOURCE) @ orbit(FRAME, SOURCE, delta)
    return delta, pose[:3].reshape(12)


def check_pose(relative_pose: ArrayLike) -> Array:
    """(3, 4) or (4, 4) numbers => a rigid transform (4, 4), or `InputError`."""
    pose = np.asarray(relative_pose, np.float64)
    if pose.shape == (3, 4):
        pose = np.vstack([pose, [0, 0, 0, 1]])
    if pose.shape != (4, 4) or not is_rigid(pose):
        raise InputError(f"relative_pose: expected a rigid 3x4 or 4x4 source_from_target, got shape {pose.shape}")
    return pose


def displacement_arguments(
    view_encoding: str,
    *,
    time: tuple[ArrayLike, ArrayLike],
    spherical: tuple[ArrayLike, ArrayLike],
    relative_pose: tuple[ArrayLike, ArrayLike],
) -> dict[str, list]:
    """Displacements of a batch of pairs => keyword arguments of the pipeline, in the form an adapter was trained on.

    Each is (values, present (B,)): time (B,), spherical (B, 3) in radians and over the scale, relative_pose (B, 12).
    """
    arguments = {"time": time}
    if view_encoding == "matrix":
        arguments["relative_pose"] = (np.reshape(relative_pose[0], (-1, 3, 4)), relative_pose[1])
    else:
        azimuth, elevation, radius = np.asarray(spherical[0]).T
        degrees = {"azimuth": np.degrees(azimuth), "elevation": np.degrees(elevation), "radius": radius}
        arguments |= {name: (values, spherical[1]) for name, values in degrees.items()}
    return {
        name: [value if has else None for value, has in zip(np.asarray(values), np.asarray(present), strict=True)]
        for name, (values, present) in arguments.items()
    }
