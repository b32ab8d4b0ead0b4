"""Displacements as users give them (a share of the scene or seconds; degrees, or a relative pose) => as mappers read.

One form of a view is turned into the other about a canonical source camera: level, looking at the scene's centre from
the scene's scale away. Training data has its real cameras; here nothing more is known than the displacement. As the
source looks from one scale away, a `radius` of r, a factor of its distance, is the difference r - 1 of training data.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourdistill.errors import InputError
from fourdistill.geometry.poses import inverse, is_rigid
from fourdistill.geometry.scene_frame import SceneFrame, orbit, spherical, spherical_delta

Array = NDArray[np.float64]
FRAME = SceneFrame(center=np.zeros(3), axes=np.eye(3), scale=1.0)  # rows east, north, up
_MIN_RADIUS = 1e-3
MAX_AZIMUTH, MAX_RADIUS = 3600, 1000  # ten turns and a thousandfold distance: what is beyond is a slip
SOURCE = np.array([[0.0, 0, -1, 1], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])  # at east 1, looking west, y down


def view_displacement(
    azimuth: float | None, elevation: float | None, radius: float | None, relative_pose: ArrayLike | None
) -> tuple[Array, Array] | None:
    """One displacement => (spherical (3,): rad, rad, over scale; rows of the 3x4 `source_from_target` (12,)).

    `azimuth` and `elevation` in degrees, `radius` the target's distance from the centre over the source's; what is
    None is as in the source (0, 0, 1), and None is returned when all are. `relative_pose` is (3, 4) or (4, 4),
    translation over the scene's scale; it excludes the other three. Raises `InputError`.
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
    azimuth, elevation = (
        0.0 if angle is None else check_number(angle, "azimuth, elevation") for angle in (azimuth, elevation)
    )
    radius = 1.0 if radius is None else check_number(radius, "radius")
    if abs(azimuth) > MAX_AZIMUTH:
        raise InputError(f"azimuth: expected degrees from -{MAX_AZIMUTH} to {MAX_AZIMUTH}, got {azimuth:g}")
    if abs(elevation) > 180:
        raise InputError(f"elevation: expected degrees from -180 to 180, got {elevation:g}")
    if radius <= 0:
        raise InputError(f"radius: expected a factor of the source's distance, above 0, got {radius:g}")
    if radius > MAX_RADIUS:
        raise InputError(f"radius: expected a factor of the source's distance, up to {MAX_RADIUS}, got {radius:g}")
    delta = np.array([np.radians(azimuth), np.radians(elevation), radius - 1])
    pose = inverse(SOURCE) @ orbit(FRAME, SOURCE, delta)
    return delta, pose[:3].reshape(12)


def radius_factor(delta_radius: ArrayLike) -> Array:
    """Differences of the distance over the scene's scale => factors of the distance, kept above 0.

    Cameras further out than the scale may come nearer by more than it; a factor cannot say so.
    """
    return np.maximum(1 + np.asarray(delta_radius, np.float64), _MIN_RADIUS)


def check_time(time: float | None, name: str = "time") -> float | None:
    """A displacement in time, in [-1, 1] or None; raises `InputError`."""
    if time is not None and abs(check_number(time, name)) > 1:
        raise InputError(f"{name}: expected a share of the scene from -1 to 1, got {time:g}")
    return time


def seconds_to_time(seconds: float | None, duration_s: float | None) -> float | None:
    """Seconds, of the sign of `time`, in a scene of `duration_s` => the share of the scene; None stays None."""
    if seconds is None:
        return None
    if duration_s is None:
        raise InputError("seconds: expected duration_s beside it, how many seconds the scene lasts")
    if check_number(duration_s, "duration_s") <= 0:
        raise InputError(f"duration_s: expected more than 0 seconds, got {duration_s:g}")
    if abs(check_number(seconds, "seconds")) > duration_s:
        raise InputError(f"seconds: expected at most the scene's {duration_s:g} s either way, got {seconds:g}")
    return seconds / duration_s


def check_number(value: float, name: str) -> float:
    """A finite number, or `InputError`."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected a number, got {value!r}") from error
    if not np.isfinite(number):
        raise InputError(f"{name}: expected a finite number, got {number}")
    return number


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
        degrees = {"azimuth": np.degrees(azimuth), "elevation": np.degrees(elevation), "radius": radius_factor(radius)}
        arguments |= {name: (values, spherical[1]) for name, values in degrees.items()}
    return {
        name: [value if has else None for value, has in zip(np.asarray(values), np.asarray(present), strict=True)]
        for name, (values, present) in arguments.items()
    }
