"""The displacement of a target frame from a source frame, in time and in the scene's spherical coordinates.

Everywhere in the code it has the same sign (target minus source) and the same units: time as a fraction of the scene,
angles in radians, the radius as a difference over the scene's scale. Users give degrees, seconds, and factors of the
camera's distance; `from_user` and `to_user` convert. The pairs table stores the paper's d = source - target;
`from_pairs` converts it.

A user's displacement starts from a canonical source camera: level, looking at the scene's centre from a distance of
one scene scale. So a factor r of its distance is a difference of r - 1.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourdistill.errors import InputError
from fourdistill.geometry.poses import Array, inverse, is_rigid, relative_pose
from fourdistill.geometry.scene_frame import SceneFrame, orbit, spherical, spherical_delta

Values = TypeVar("Values")
"""NumPy arrays, or the tensors of a batch; this module itself needs only NumPy."""

FRAME = SceneFrame(center=np.zeros(3), axes=np.eye(3), scale=1.0)  # rows east, north, up
SOURCE = np.array([[0.0, 0, -1, 1], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])  # at east 1, looking west, y down
STANDING_STILL = np.eye(3, 4).reshape(12)  # a relative pose
MAX_AZIMUTH, MAX_RADIUS = 3600, 1000  # degrees, factor: larger values are taken for mistakes
_MIN_RADIUS = 1e-3


@dataclass(frozen=True)
class Placement:
    """Times and camera poses of frames (...); NaN where a pose is unknown."""

    time: NDArray[Any]
    """(...) in [0, 1] within the scene."""
    timestamp_s: Array
    """(...)"""
    c2w: Array
    """(..., 4, 4)"""
    spherical: Array
    """(..., 3) azimuth rad, elevation rad, radius over the scene's scale."""
    scale: Array
    """(...) the scene's scale, in the units of the poses."""

    def __getitem__(self, rows: Any) -> "Placement":
        """The placement of some of the frames, or of one."""
        return Placement(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@dataclass(frozen=True, eq=False)
class Displacement(Generic[Values]):
    """One displacement or a batch (...). An absent part is zero (relative pose: the identity) and its mask is False."""

    time: Values
    """(...) fraction of the scene in [-1, 1], or of an adapter's `max_gap_s` seconds; positive is later."""
    azimuth: Values
    """(...) rad, counter-clockwise seen from above."""
    elevation: Values
    """(...) rad, upwards."""
    radius: Values
    """(...) difference of the distances from the scene's centre, over the scene's scale."""
    relative_pose: Values
    """(..., 12) rows of the 3x4 `source_from_target`, translation over the scene's scale."""
    has_time: Values
    """(...) bool."""
    has_view: Values
    """(...) bool, for azimuth, elevation, radius and relative pose."""

    @staticmethod
    def merge(parts: "Sequence[Displacement[Any]]", join: Callable[[list[Any]], Any]) -> "Displacement[Any]":
        """Join the parts field by field with `join`, such as `np.stack`."""
        names = [field.name for field in fields(Displacement)]
        return Displacement(**{name: join([getattr(part, name) for part in parts]) for name in names})

    def map(self, change: Callable[[Any], Any]) -> "Displacement[Any]":
        """Apply `change` to every field, such as a move to a device."""
        return Displacement.merge([self], lambda values: change(values[0]))

    def __len__(self) -> int:
        return len(self.time)  # type: ignore[arg-type] # a batch

    def __getitem__(self, rows: Any) -> "Displacement[Values]":
        """Some of a batch, or one."""
        return self.map(lambda values: values[rows])

    def __iter__(self) -> "Iterator[Displacement[Values]]":
        return (self[row] for row in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Displacement) and self._numbers() == other._numbers()

    def __hash__(self) -> int:
        return hash(self._numbers())

    def _numbers(self) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(np.ravel(values).tolist()) for values in vars(self).values())

    @classmethod
    def from_frames(
        cls, source: Placement, target: Placement, has_time: ArrayLike, has_view: ArrayLike, max_gap_s: float | None
    ) -> "Displacement[Array]":
        """Displacements between sources and targets (...) of the same scenes; masks (...) bool select the parts.

        Times are fractions of the scene, or of `max_gap_s` seconds. The view is also absent where a pose is unknown.
        """
        time = np.asarray(target.time, np.float64) - source.time
        if max_gap_s is not None:
            time = (target.timestamp_s - source.timestamp_s) / max_gap_s
        delta = spherical_delta(source.spherical, target.spherical)
        has_view = np.asarray(has_view) & np.isfinite(delta).all(axis=-1)
        pose = relative_pose(source.c2w, target.c2w)[..., :3, :]
        pose[..., 3] /= np.asarray(target.scale)[..., None]
        return cls._masked(time, delta, pose.reshape(*pose.shape[:-2], 12), has_time, has_view)

    @classmethod
    def from_pairs(
        cls, kinds: Sequence[str], normalized_gap: ArrayLike, relative_pose: ArrayLike, delta: ArrayLike
    ) -> "Displacement[Array]":
        """Columns of the pairs table => displacements (N,); kinds and gaps (N,), poses (N, 12), `delta` (N, 3).

        The table's gap is the paper's d = source - target; the time is its negative. Null entries may have any value.
        """
        kind = np.asarray(kinds, dtype=str)
        time = 0.0 - np.asarray(normalized_gap, np.float64)  # no -0.0
        return cls._masked(time, np.asarray(delta), np.asarray(relative_pose), kind != "view", kind != "time")

    @classmethod
    def from_user(
        cls,
        time: float | None = None,
        azimuth: float | None = None,
        elevation: float | None = None,
        radius: float | None = None,
        relative_pose: ArrayLike | None = None,
        seconds: float | None = None,
        duration_s: float | None = None,
        *,
        where: str = "",
    ) -> "Displacement[Array]":
        """One displacement in users' units; None means no change, and a part is absent if all its arguments are None.

        Time: `time` in [-1, 1], or `seconds` of a scene of `duration_s`. View: `azimuth` and `elevation` in degrees and
        `radius`, the target's distance from the centre over the source's; or `relative_pose` (3, 4) or (4, 4),
        translation over the scene's scale. Raises `InputError` naming the argument, prefixed by `where`.
        """
        time = _check_time(time, seconds, duration_s, where)
        angles = {"azimuth": azimuth, "elevation": elevation, "radius": radius}
        given = {name: check_number(value, where + name) for name, value in angles.items() if value is not None}
        if relative_pose is not None:
            if given:
                raise InputError(f"{where}relative_pose: expected no {next(iter(given))} beside it")
            pose = _check_pose(relative_pose, where)
            delta = spherical_delta(spherical(FRAME, SOURCE), spherical(FRAME, SOURCE @ pose))
        else:
            _check_view(given, where)
            turn = np.radians([given.get("azimuth", 0.0), given.get("elevation", 0.0)])
            delta = np.array([*turn, given.get("radius", 1.0) - 1])
            pose = inverse(SOURCE) @ orbit(FRAME, SOURCE, delta)
        has_view = bool(given) or relative_pose is not None
        return cls._masked(np.array(time or 0.0), delta, pose[:3].reshape(12), time is not None, has_view)

    @classmethod
    def _masked(
        cls, time: Array, delta: Array, pose: Array, has_time: ArrayLike, has_view: ArrayLike
    ) -> "Displacement[Array]":
        """Times (...), spherical differences (..., 3), poses (..., 12), masks (...); masked-out values are ignored."""
        has_time, has_view = np.asarray(has_time), np.asarray(has_view)
        delta = np.where(has_view[..., None], delta, 0.0)
        return Displacement(
            time=np.where(has_time, time, 0.0),
            azimuth=delta[..., 0],
            elevation=delta[..., 1],
            radius=delta[..., 2],
            relative_pose=np.where(has_view[..., None], pose, STANDING_STILL),
            has_time=has_time,
            has_view=has_view,
        )

    def to_user(self: "Displacement[Array]") -> dict[str, float | None]:
        """One displacement => arguments of `from_user` that reproduce it: `time`, `azimuth`, `elevation`, `radius`.

        Absent parts are None. A camera further out than the scene's scale may move in by more than the scale, which
        no factor above 0 can express: the radius is at least 0.001.
        """
        radius = max(1 + float(self.radius), _MIN_RADIUS)
        view = {"azimuth": np.degrees(self.azimuth), "elevation": np.degrees(self.elevation), "radius": radius}
        told = {name: float(value) if self.has_view else None for name, value in view.items()}
        return {"time": float(self.time) if self.has_time else None, **told}

    def still(self: "Displacement[Array]") -> "Displacement[Array]":
        """Zero displacements with the same masks."""
        nothing = np.zeros((*np.shape(self.time), 3))
        pose = np.broadcast_to(STANDING_STILL, np.shape(self.relative_pose))
        return self._masked(nothing[..., 0], nothing, pose, self.has_time, self.has_view)

    def masked(self, time: Any, view: Any) -> "Displacement[Any]":
        """The same values, with the masks restricted to where `time` and `view` (...) bool are True."""
        mine: Any = self
        return Displacement(**vars(self) | {"has_time": mine.has_time & time, "has_view": mine.has_view & view})


def degrees_off_center(relative_pose: ArrayLike) -> float:
    """How far past the scene's centre the camera of a user's `relative_pose` looks, degrees in [0, 180].

    It is what azimuth, elevation and radius leave out: they say where the camera stands, and it looks at the centre.
    (They do not say how it is rolled, either, but a source that is not level, as few cameras are, rolls every target.)
    A rigid pose (3, 4) or (4, 4), from the canonical source; 0 where the camera stands in the centre.
    """
    target = SOURCE @ np.vstack([np.asarray(relative_pose, np.float64)[:3], [0, 0, 0, 1]])
    forward, to_center = target[:3, 2], FRAME.center - target[:3, 3]
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(forward, to_center)), forward @ to_center)))


def check_number(value: float, name: str) -> float:
    """The value as a finite float; raises `InputError` otherwise."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected a number, got {value!r}") from error
    if not np.isfinite(number):
        raise InputError(f"{name}: expected a finite number, got {number}")
    return number


def _check_time(time: float | None, seconds: float | None, duration_s: float | None, where: str) -> float | None:
    """The time as a fraction of the scene, from `time` or `seconds`; None if neither is given."""
    if seconds is None:
        if time is not None and abs(check_number(time, f"{where}time")) > 1:
            raise InputError(f"{where}time: expected a share of the scene from -1 to 1, got {time:g}")
        return time
    if time is not None:
        raise InputError(f"{where}seconds: expected no time beside it")
    if duration_s is None:
        raise InputError(f"{where}seconds: expected duration_s beside it, how many seconds the scene lasts")
    if check_number(duration_s, f"{where}duration_s") <= 0:
        raise InputError(f"{where}duration_s: expected more than 0 seconds, got {duration_s:g}")
    if abs(check_number(seconds, f"{where}seconds")) > duration_s:
        raise InputError(f"{where}seconds: expected at most the scene's {duration_s:g} s either way, got {seconds:g}")
    return seconds / duration_s


def _check_view(given: dict[str, float], where: str) -> None:
    """Raise `InputError` if an angle or the radius factor is out of range."""
    radius = given.get("radius", 1.0)
    for name, most in (("azimuth", MAX_AZIMUTH), ("elevation", 180)):
        if abs(given.get(name, 0.0)) > most:
            raise InputError(f"{where}{name}: expected degrees from -{most} to {most}, got {given[name]:g}")
    if radius <= 0:
        raise InputError(f"{where}radius: expected a factor of the source's distance, above 0, got {radius:g}")
    if radius > MAX_RADIUS:
        raise InputError(
            f"{where}radius: expected a factor of the source's distance, up to {MAX_RADIUS}, got {radius:g}"
        )


def _check_pose(relative_pose: ArrayLike, where: str) -> Array:
    """(3, 4) or (4, 4) numbers => a rigid transform (4, 4); raises `InputError` otherwise."""
    pose = np.asarray(relative_pose, np.float64)
    if pose.shape == (3, 4):
        pose = np.vstack([pose, [0, 0, 0, 1]])
    if pose.shape != (4, 4) or not is_rigid(pose):
        raise InputError(
            f"{where}relative_pose: expected a rigid 3x4 or 4x4 source_from_target, got shape {pose.shape}"
        )
    return pose
