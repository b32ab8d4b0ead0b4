"""Sweeps over the camera x time grid of a scene: one condition, displacements commanded one after the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fourdistill.data.tables import FRAMES, read_table
from fourdistill.evaluation.commands import Command, FrameKey
from fourdistill.geometry.displacement import SceneFrame, fit_scene_frame, spherical, spherical_delta
from fourdistill.geometry.poses import relative_pose

Row = Mapping[str, Any]
Camera = list[Row]
"""The rows of one camera, in order of time."""


@dataclass(frozen=True)
class Sweep:
    """Commands from one source frame, in the order in which they are shown."""

    name: str
    """`<scene>_time` or `<scene>_camera`."""
    commands: list[Command]


def build_sweeps(
    frames_table: Path, num_scenes: int, num_steps: int, *, max_gap: int | None, max_gap_s: float | None
) -> list[Sweep]:
    """A time sweep and, where poses are known, a camera sweep for each of `num_scenes` scenes with held-out frames.

    Scenes that are held out as a whole come first. `max_gap` (frames) and `max_gap_s` (seconds, the divisor of the
    normalised gap; None: the difference of `time`) keep time sweeps within what the pairs were drawn from.
    """
    scenes: dict[str, dict[str, Camera]] = {}
    for row in read_table(frames_table, FRAMES).to_pylist():
        scenes.setdefault(row["scene"], {}).setdefault(row["camera"], []).append(row)
    held_out = {name: share for name, cameras in scenes.items() if (share := _share_held_out(cameras))}
    sweeps = []
    for name in sorted(held_out, key=lambda name: (-held_out[name], name))[:num_scenes]:
        sweeps.append(Sweep(f"{name}_time", _sweep_time(scenes[name], num_steps, max_gap, max_gap_s)))
        if commands := _sweep_cameras(scenes[name], num_steps):
            sweeps.append(Sweep(f"{name}_camera", commands))
    return sweeps


def _share_held_out(cameras: dict[str, Camera]) -> float:
    """The share of a scene's frames that no training pair has seen."""
    return sum(map(_num_held_out, cameras.values())) / sum(map(len, cameras.values()))


def _num_held_out(rows: Sequence[Row]) -> int:
    return sum(row["split"] == "test" for row in rows)


def _sweep_time(
    cameras: dict[str, Camera], num_steps: int, max_gap: int | None, max_gap_s: float | None
) -> list[Command]:
    """From the middle of the most held-out camera's video to instants spread evenly over it."""
    rows = max(cameras.values(), key=_num_held_out)
    source = rows[len(rows) // 2]
    commands = []
    for target in rows:
        gap = source["frame_index"] - target["frame_index"]
        seconds = source["timestamp_s"] - target["timestamp_s"]
        time = source["time"] - target["time"] if max_gap_s is None else seconds / max_gap_s
        if abs(time) <= 1 and (max_gap is None or abs(gap) <= max_gap):
            commands.append(_command("time", source, target, time=time))
    return _spread(commands, num_steps)


def _sweep_cameras(cameras: dict[str, Camera], num_steps: int) -> list[Command]:
    """From the camera in the middle to all others at the most held-out instant, by azimuth; empty without poses."""
    instants: dict[int, list[Row]] = {}
    for row in (row for rows in cameras.values() for row in rows if row["c2w"] is not None):
        instants.setdefault(row["frame_index"], []).append(row)
    rows = max(instants.values(), key=lambda rows: (len(rows), _num_held_out(rows)), default=[])
    frame = fit_scene_frame(np.unique([_pose(row) for row in rows], axis=0)) if len(rows) > 1 else None
    if frame is None:
        return []
    rows = sorted(rows, key=lambda row: spherical(frame, _pose(row))[0])
    source = rows[len(rows) // 2]
    commands = [_command("view", source, target, frame=frame) for target in rows]
    return _spread(sorted(commands, key=lambda command: command.spherical or ()), num_steps)


def _command(
    kind: str, source: Row, target: Row, *, time: float | None = None, frame: SceneFrame | None = None
) -> Command:
    angles = pose = None
    if frame is not None:
        delta = spherical_delta(spherical(frame, _pose(source)), spherical(frame, _pose(target)))
        angles = (float(np.degrees(delta[0])), float(np.degrees(delta[1])), float(delta[2]))
        source_from_target = relative_pose(_pose(source), _pose(target))
        source_from_target[:3, 3] /= frame.scale
        pose = tuple(source_from_target[:3].reshape(12).tolist())
    return Command(
        kind=kind, source=_key(source), target=_key(target), time=time, spherical=angles, relative_pose=pose,
        caption=source["caption"],
    )  # fmt: skip


def _key(row: Row) -> FrameKey:
    return FrameKey(row["scene"], row["camera"], row["frame_index"])


def _pose(row: Row) -> np.ndarray:
    return np.reshape(row["c2w"], (4, 4))


def _spread(commands: list[Command], num_steps: int) -> list[Command]:
    """At most `num_steps` of the commands, evenly spread, first and last among them."""
    if len(commands) <= num_steps:
        return commands
    return [commands[i] for i in np.linspace(0, len(commands) - 1, num_steps).round().astype(int)]
