"""Sweeps over the camera x time grid of a scene: one condition, displacements commanded one after the other.

A time sweep keeps the camera, a camera sweep the instant; a joint sweep changes both with every step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fourdistill.evaluation.commands.draw import Command, FrameKey, Instant, normalized_gap
from fourdistill.geometry.poses import relative_pose
from fourdistill.geometry.scene_frame import SceneFrame, fit_scene_frame, spherical, spherical_delta
from fourdistill.tables import FRAMES, read_table

Row = Mapping[str, Any]
Value = TypeVar("Value")
Camera = list[Row]
"""The rows of one camera, in order of time."""


@dataclass(frozen=True)
class Sweep:
    """Commands from one source frame, in the order in which they are shown."""

    name: str
    """`<scene>_time`, `<scene>_camera` or `<scene>_joint`."""
    commands: list[Command]

    @property
    def scene(self) -> str:
        """The scene that it runs over."""
        return self.commands[0].source.scene


@dataclass(frozen=True)
class Limits:
    """How far apart in time two frames of a pair may be, and what measures it; see `build_sweeps`."""

    max_gap: int | None
    max_gap_s: float | None

    def time(self, source: Row, target: Row) -> float | None:
        """The normalised gap that leads from source to target; None where it is beyond the limits."""
        gap = source["frame_index"] - target["frame_index"]
        then, now = (Instant(row["time"], row["timestamp_s"]) for row in (source, target))
        time = normalized_gap(then, now, self.max_gap_s)
        return time if abs(time) <= 1 and (self.max_gap is None or abs(gap) <= self.max_gap) else None


def build_sweeps(
    frames_table: Path,
    num_scenes: int,
    num_steps: int,
    *,
    max_gap: int | None,
    max_gap_s: float | None,
    rng: np.random.Generator,
) -> list[Sweep]:
    """A time sweep and, where poses are known, a camera and a joint sweep for each of `num_scenes` scenes.

    Only scenes with held-out frames count, and every target is held out as far as the scene allows; scenes that are
    held out as a whole come first, then scenes that are trained on, from all over the list of names. `max_gap` (frames)
    and `max_gap_s` (seconds, the divisor of the normalised gap; None: the difference of `time`) keep times within what
    the pairs were drawn from.
    """
    limits = Limits(max_gap, max_gap_s)
    scenes: dict[str, dict[str, Camera]] = {}
    for row in read_table(frames_table, FRAMES).to_pylist():
        scenes.setdefault(row["scene"], {}).setdefault(row["camera"], []).append(row)
    held_out = {name: share for name, cameras in scenes.items() if (share := _share_held_out(cameras))}
    whole = sorted(name for name, share in held_out.items() if share == 1)[:num_scenes]
    known = sorted(name for name in held_out if _is_trained_on(scenes[name]))
    sweeps = []
    for name in [*whole, *_spread(known, num_scenes - len(whole))]:
        cameras = scenes[name]
        candidates = {
            "time": _sweep_time(cameras, num_steps, limits),
            "camera": _sweep_cameras(cameras, num_steps),
            "joint": _sweep_both(cameras, num_steps, limits, rng),
        }
        for kind, commands in candidates.items():
            if commands:
                marked = [replace(command, new_scene=name in whole) for command in commands]
                sweeps.append(Sweep(f"{name}_{kind}", marked))
    return sweeps


def _is_trained_on(cameras: dict[str, Camera]) -> bool:
    return any(row["split"] == "train" for rows in cameras.values() for row in rows)


def _share_held_out(cameras: dict[str, Camera]) -> float:
    """The share of a scene's frames that no training pair has seen."""
    return sum(map(_num_held_out, cameras.values())) / sum(map(len, cameras.values()))


def _num_held_out(rows: Sequence[Row]) -> int:
    return sum(row["split"] == "test" for row in rows)


def _sweep_time(cameras: dict[str, Camera], num_steps: int, limits: Limits) -> list[Command]:
    """From the middle of the most held-out camera's video to instants spread evenly over it."""
    rows = max(cameras.values(), key=_num_held_out)
    source = rows[len(rows) // 2]
    times = [(limits.time(source, target), target) for target in rows]
    commands = [_command("time", source, target, time=t) for t, target in times if t is not None]
    return _spread(commands, num_steps) if len(commands) > 1 else []  # one alone commands nothing


def _sweep_cameras(cameras: dict[str, Camera], num_steps: int) -> list[Command]:
    """From the camera in the middle to all others at the most held-out instant, by azimuth; empty without poses."""
    instants: dict[int, list[Row]] = {}
    for row in (row for rows in cameras.values() for row in rows if row["c2w"] is not None):
        instants.setdefault(row["frame_index"], []).append(row)
    rows = max(instants.values(), key=lambda rows: (len(rows), _num_held_out(rows)), default=[])
    frame = _scene_frame(cameras)
    if frame is None or len(rows) < 2:
        return []
    rows = sorted(rows, key=lambda row: spherical(frame, _pose(row))[0])
    source = rows[len(rows) // 2]
    commands = [_command("view", source, target, frame=frame) for target in rows]
    return _spread(sorted(commands, key=lambda command: command.spherical or ()), num_steps)


def _sweep_both(cameras: dict[str, Camera], num_steps: int, limits: Limits, rng: np.random.Generator) -> list[Command]:
    """From one random frame to random held-out frames of other cameras at other instants; empty without poses."""
    rows = [row for camera in cameras.values() for row in camera if row["c2w"] is not None]
    frame = _scene_frame(cameras)
    if frame is None:
        return []
    # The most held-out camera is where held-out targets are: look at it from elsewhere, if there is an elsewhere.
    most = max(cameras, key=lambda name: _num_held_out(cameras[name]))
    sources = [row for row in rows if row["camera"] != most] or rows
    source = sources[rng.integers(len(sources))]
    held_out = [row for row in rows if row["split"] == "test"]
    commands = []
    for target in (held_out[i] for i in rng.permutation(len(held_out))):
        time = limits.time(source, target)
        other = target["camera"] != source["camera"] and target["frame_index"] != source["frame_index"]
        if other and time is not None and len(commands) < num_steps:
            commands.append(_command("joint", source, target, time=time, frame=frame))
    return sorted(commands, key=lambda command: command.size())


def _scene_frame(cameras: dict[str, Camera]) -> SceneFrame | None:
    """What pairs of the scene are measured in: the frame of all its cameras at all instants, not of a sweep's."""
    poses = [_pose(row) for rows in cameras.values() for row in rows if row["c2w"] is not None]
    return fit_scene_frame(np.unique(poses, axis=0)) if poses else None


def _command(
    kind: str, source: Row, target: Row, *, time: float | None = None, frame: SceneFrame | None = None
) -> Command:
    angles = pose = None
    if frame is not None:
        delta = spherical_delta(spherical(frame, _pose(source)), spherical(frame, _pose(target)))
        angles = (float(np.degrees(delta[0])), float(np.degrees(delta[1])), float(delta[2]))
        source_from_target = relative_pose(_pose(source), _pose(target))
        source_from_target[:3, 3] /= source["scene_scale"]
        pose = tuple(source_from_target[:3].reshape(12).tolist())
    return Command(
        kind=kind, source=_key(source), target=_key(target), time=time, spherical=angles, relative_pose=pose,
        caption=source["caption"],
    )  # fmt: skip


def _key(row: Row) -> FrameKey:
    return FrameKey(row["scene"], row["camera"], row["frame_index"])


def _pose(row: Row) -> np.ndarray:
    return np.reshape(row["c2w"], (4, 4))


def _spread(values: list[Value], count: int) -> list[Value]:
    """At most `count` of the values, evenly spread, first and last among them."""
    if len(values) <= count:
        return values
    return [values[i] for i in np.linspace(0, len(values) - 1, count).round().astype(int)]
