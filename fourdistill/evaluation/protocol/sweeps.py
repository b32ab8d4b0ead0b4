"""Sweeps over the camera x time grid of a scene: a sequence of displacements from one condition.

A time sweep keeps the camera and a camera sweep the instant; a joint sweep changes both at every step.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from fourdistill.evaluation.protocol.command import Command, FrameKey
from fourdistill.frames.scenes_table import read_frames
from fourdistill.geometry.displacement import Displacement, Placement

Value = TypeVar("Value")


@dataclass(frozen=True)
class Frame:
    """One row of the frames table."""

    key: FrameKey
    seen: Placement
    split: str
    caption: str | None

    @property
    def is_posed(self) -> bool:
        """Whether its position in the scene frame is known."""
        return bool(np.isfinite(self.seen.spherical).all())


Camera = list[Frame]
"""The frames of one camera, in order of time."""


@dataclass(frozen=True)
class Sweep:
    """Commands from one source frame, in display order."""

    name: str
    """`<scene>_time`, `<scene>_camera` or `<scene>_joint`."""
    commands: list[Command]

    @property
    def scene(self) -> str:
        """The scene of the sweep."""
        return self.commands[0].source.scene


@dataclass(frozen=True)
class Limits:
    """The largest time between two frames of a pair; see `build_sweeps`."""

    max_gap: int | None
    max_gap_s: float | None

    def command(self, kind: str, source: Frame, target: Frame) -> Command | None:
        """The command from one frame to another; None if it exceeds the limits."""
        displacement = Displacement.from_frames(
            source.seen, target.seen, kind != "view", kind != "time", self.max_gap_s
        )
        gap = abs(source.key.frame - target.key.frame)
        if abs(displacement.time) > 1 or (kind != "view" and self.max_gap is not None and gap > self.max_gap):
            return None
        return Command(kind, source.key, target.key, displacement, source.caption)


def build_sweeps(
    frames_table: Path,
    scenes_table: Path,
    num_scenes: int,
    num_steps: int,
    *,
    max_gap: int | None,
    max_gap_s: float | None,
    rng: np.random.Generator,
) -> list[Sweep]:
    """Build a time sweep and, if poses are known, a camera and a joint sweep for each of `num_scenes` scenes.

    Only scenes with held-out frames are used, and targets are held out as far as the scene allows. Scenes held out as a
    whole come first, then scenes seen in training, evenly spaced in the sorted list of names. `max_gap` (frames) and
    `max_gap_s` (seconds that a time of 1 stands for; None: the whole scene) limit times to the range of the pairs.
    """
    limits = Limits(max_gap, max_gap_s)
    scenes = _read_scenes(frames_table, scenes_table)
    held_out = {name: share for name, cameras in scenes.items() if (share := _share_held_out(cameras))}
    whole = sorted(name for name, share in held_out.items() if share == 1)[:num_scenes]
    known = sorted(name for name in held_out if _is_trained_on(scenes[name]))
    sweeps = []
    for name in [*whole, *_choose_evenly(known, num_scenes - len(whole))]:
        cameras = scenes[name]
        candidates = {
            "time": _sweep_time(cameras, num_steps, limits),
            "camera": _sweep_cameras(cameras, num_steps, limits),
            "joint": _sweep_both(cameras, num_steps, limits, rng),
        }
        for kind, commands in candidates.items():
            if commands:
                marked = [replace(command, new_scene=name in whole) for command in commands]
                sweeps.append(Sweep(f"{name}_{kind}", marked))
    return sweeps


def _read_scenes(frames_table: Path, scenes_table: Path) -> dict[str, dict[str, Camera]]:
    """All frames by scene and camera."""
    table, seen = read_frames(frames_table, scenes_table)
    scenes: dict[str, dict[str, Camera]] = {}
    for number, row in enumerate(table.to_pylist()):
        key = FrameKey(row["scene"], row["camera"], row["frame_index"])
        frame = Frame(key, seen[number], row["split"], row["caption"])
        scenes.setdefault(row["scene"], {}).setdefault(row["camera"], []).append(frame)
    return scenes


def _is_trained_on(cameras: dict[str, Camera]) -> bool:
    return any(frame.split == "train" for frames in cameras.values() for frame in frames)


def _share_held_out(cameras: dict[str, Camera]) -> float:
    """The share of a scene's frames that are held out."""
    return sum(map(_num_held_out, cameras.values())) / sum(map(len, cameras.values()))


def _num_held_out(frames: Sequence[Frame]) -> int:
    return sum(frame.split == "test" for frame in frames)


def _sweep_time(cameras: dict[str, Camera], num_steps: int, limits: Limits) -> list[Command]:
    """From the middle frame of the most held-out camera to evenly spaced instants of its video, in order."""
    frames = max(cameras.values(), key=_num_held_out)
    source = frames[len(frames) // 2]
    found = [limits.command("time", source, target) for target in frames]
    commands = [command for command in found if command is not None]
    return _choose_evenly(commands, num_steps) if len(commands) > 1 else []  # a single command stays at the source


def _sweep_cameras(cameras: dict[str, Camera], num_steps: int, limits: Limits) -> list[Command]:
    """From the middle camera by azimuth to all cameras at the most held-out instant; empty without poses."""
    instants: dict[int, list[Frame]] = {}
    for frame in (frame for frames in cameras.values() for frame in frames if frame.is_posed):
        instants.setdefault(frame.key.frame, []).append(frame)
    frames = max(instants.values(), key=lambda frames: (len(frames), _num_held_out(frames)), default=[])
    if len(frames) < 2:
        return []
    frames = sorted(frames, key=lambda frame: frame.seen.spherical[0])
    source = frames[len(frames) // 2]
    found = [limits.command("view", source, target) for target in frames]
    return _choose_evenly(sorted((command for command in found if command), key=_view), num_steps)


def _view(command: Command) -> tuple[float, ...]:
    moved = command.displacement
    return float(moved.azimuth), float(moved.elevation), float(moved.radius)


def _sweep_both(cameras: dict[str, Camera], num_steps: int, limits: Limits, rng: np.random.Generator) -> list[Command]:
    """From one random frame to random held-out frames of other cameras at other instants; empty without poses."""
    frames = [frame for camera in cameras.values() for frame in camera if frame.is_posed]
    if not frames:
        return []
    # Most held-out targets belong to the most held-out camera, so take the source from another one if possible.
    most = max(cameras, key=lambda name: _num_held_out(cameras[name]))
    sources = [frame for frame in frames if frame.key.camera != most] or frames
    source = sources[rng.integers(len(sources))]
    held_out = [frame for frame in frames if frame.split == "test"]
    commands: list[Command] = []
    for target in (held_out[i] for i in rng.permutation(len(held_out))):
        other = target.key.camera != source.key.camera and target.key.frame != source.key.frame
        command = limits.command("joint", source, target) if other else None
        if command is not None and len(commands) < num_steps:
            commands.append(command)
    return sorted(commands, key=lambda command: command.size())


def _choose_evenly(values: list[Value], count: int) -> list[Value]:
    """At most `count` evenly spaced values, including the first and the last."""
    if len(values) <= count:
        return values
    return [values[i] for i in np.linspace(0, len(values) - 1, count).round().astype(int)]
