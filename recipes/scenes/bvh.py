"""Biovision Hierarchy (BVH) files: a skeleton, and the rotation and translation of each joint in every frame.

No library on PyPI was suitable: `upc-pymotion` 0.3.4 reads a truncated file as frames of zeros and fails if there is
one frame more than the header says (as in `Boxing_Toes.bvh`), `bvh` and `bvhtoolbox` are no longer maintained, and the
others depend on viewers.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fourdistill.errors import InputError

AXES = "XYZ"
CHANNELS = tuple(f"{axis}{kind}" for kind in ("position", "rotation") for axis in AXES)


@dataclass(frozen=True)
class Recording:
    """A BVH file's content, in its own unit of length and axes.

    `joints` names, parents first; `parents` (J,) indices, -1 for the root; `ends` (J, 3) end sites, NaN for joints
    without one; `frame_time` seconds; `translations` (T, J, 3) and `rotations` (T, J, 3, 3) from the joint's frame to
    its parent's.
    """

    joints: tuple[str, ...]
    parents: tuple[int, ...]
    ends: np.ndarray
    frame_time: float
    translations: np.ndarray
    rotations: np.ndarray

    def world(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions (T, J, 3) and rotations (T, J, 3, 3) of all joints in the world."""
        positions, rotations = self.translations.copy(), self.rotations.copy()
        for joint, parent in enumerate(self.parents):
            if parent >= 0:
                offset = np.einsum("tij,tj->ti", rotations[:, parent], self.translations[:, joint])
                positions[:, joint] = positions[:, parent] + offset
                rotations[:, joint] = rotations[:, parent] @ self.rotations[:, joint]
        return positions, rotations


@dataclass
class _Joint:
    """One joint while its block is read; `channels` names the columns of its motion, in order."""

    name: str
    parent: int
    offset: list[float]
    channels: list[str]
    end: list[float]


class _Words:
    """Iterates over the words of a file, with line numbers for error messages."""

    def __init__(self, path: Path, lines: list[str]):
        self.path, self.line = path, 0
        self._words = self._numbered(lines)

    def _numbered(self, lines: list[str]) -> Iterator[str]:
        for self.line, line in enumerate(lines, 1):
            yield from line.split()

    def error(self, expected: str, found: str) -> InputError:
        return InputError(f"{self.path}: line {self.line}: expected {expected}, got {found}")

    def next(self, expected: str) -> str:
        word = next(self._words, None)
        if word is None:
            raise self.error(expected, "the end of the file")
        return word

    def literal(self, *words: str) -> None:
        for word in words:
            found = self.next(word)
            if found != word:
                raise self.error(word, repr(found))

    def number(self, expected: str) -> float:
        word = self.next(expected)
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.error(expected, repr(word))
        return value

    def count(self, expected: str) -> int:
        value = self.number(expected)
        if value != int(value) or value < 0:
            raise self.error(expected, repr(value))
        return int(value)

    def left(self) -> int:
        """Consume the remaining words and return their number."""
        return sum(1 for _ in self._words)


def read_bvh(path: Path) -> Recording:
    """Read the BVH file `path`: any channels in any order, angles in degrees, as intrinsic rotations.

    A joint's position channels replace its offset. Whole frames beyond the header's count are ignored, because some
    programs write one too many. Raises `InputError` naming file, line and what was expected.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path}: expected a BVH file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected a BVH file, which is text: {error.reason}") from error
    words = _Words(path, lines)
    words.literal("HIERARCHY", "ROOT")
    joints: list[_Joint] = []
    _read_joint(words, -1, joints)
    words.literal("MOTION", "Frames:")
    num_frames = words.count("the number of frames")
    words.literal("Frame", "Time:")
    frame_time = words.number("seconds a frame")
    if num_frames == 0 or frame_time <= 0:
        raise words.error("at least one frame of a positive time", f"{num_frames} frames of {frame_time} s")
    columns = [(index, channel) for index, joint in enumerate(joints) for channel in joint.channels]
    if not columns:
        raise words.error("a channel of any joint", "none")
    values = np.empty((num_frames, len(columns)))
    for frame in range(num_frames):
        for column, (index, channel) in enumerate(columns):
            values[frame, column] = words.number(f"{joints[index].name}'s {channel} of frame {frame}")
    surplus = words.left()
    if surplus % len(columns):
        raise words.error(f"{num_frames} frames of {len(columns)} numbers", f"{surplus} words more")
    return _recording(joints, frame_time, columns, values)


def _read_joint(words: _Words, parent: int, joints: list[_Joint]) -> None:
    """Read a joint and its descendants, from its name to its closing brace; append them to `joints`."""
    name = words.next("a joint's name")
    if name in (joint.name for joint in joints):
        raise words.error("a name that no other joint has", repr(name))
    joint, index = _Joint(name, parent, [], [], [math.nan] * 3), len(joints)
    joints.append(joint)
    words.literal("{", "OFFSET")
    joint.offset = [words.number(f"{name}'s offset") for _ in AXES]
    words.literal("CHANNELS")
    for _ in range(words.count(f"the number of {name}'s channels")):
        channel = words.next(f"{name}'s channel")
        if channel not in CHANNELS or channel in joint.channels:
            raise words.error(f"each of {', '.join(CHANNELS)} at most once", repr(channel))
        joint.channels.append(channel)
    while (word := words.next("JOINT, End Site or }")) != "}":
        if word == "JOINT":
            _read_joint(words, index, joints)
        elif word == "End":
            words.literal("Site", "{", "OFFSET")
            joint.end = [words.number(f"{name}'s end site") for _ in AXES]
            words.literal("}")
        else:
            raise words.error("JOINT, End Site or }", repr(word))


def _recording(
    joints: list[_Joint], frame_time: float, columns: list[tuple[int, str]], values: np.ndarray
) -> Recording:
    translations = np.tile(np.array([joint.offset for joint in joints]), (len(values), 1, 1))
    rotations = np.tile(np.eye(3), (len(values), len(joints), 1, 1))
    for (index, channel), column in zip(columns, values.T, strict=True):
        axis = AXES.index(channel[0])
        if channel.endswith("position"):
            translations[:, index, axis] = column
        else:  # matrices multiply in channel order, so the first channel's rotation is applied last
            rotations[:, index] = rotations[:, index] @ axis_rotation(axis, np.deg2rad(column))
    ends = np.array([joint.end for joint in joints])
    names, parents = tuple(joint.name for joint in joints), tuple(joint.parent for joint in joints)
    return Recording(names, parents, ends, frame_time, translations, rotations)


def axis_rotation(axis: int, angles: np.ndarray) -> np.ndarray:
    """Rotations (N, 3, 3) by `angles` (N,) in radians about axis 0, 1 or 2, counter-clockwise seen from its tip."""
    turned = np.zeros((len(angles), 3, 3))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    turned[:, axis, axis] = 1
    turned[:, first, first] = turned[:, second, second] = np.cos(angles)
    turned[:, second, first] = np.sin(angles)
    turned[:, first, second] = -turned[:, second, first]
    return turned
