"""Recorded motion: clips of joint rotations, their interpolation, and world rotations of all joints.

Axes of a clip: +x forward, y up, +z to the person's right (right-handed). Quaternions are w, x, y, z.
"""

from dataclasses import dataclass

import numpy as np

# Joint → (parent, number of values in the file): four are a quaternion, one is the angle of a hinge about z.
JOINTS = {
    "root": (None, 4),
    "chest": ("root", 4),
    "neck": ("chest", 4),
    "right_hip": ("root", 4),
    "right_knee": ("right_hip", 1),
    "right_ankle": ("right_knee", 4),
    "right_shoulder": ("chest", 4),
    "right_elbow": ("right_shoulder", 1),
    "left_hip": ("root", 4),
    "left_knee": ("left_hip", 1),
    "left_ankle": ("left_knee", 4),
    "left_shoulder": ("chest", 4),
    "left_elbow": ("left_shoulder", 1),
}
JOINT_NAMES = tuple(JOINTS)
LEGS = ("root", "hip", "knee", "ankle")  # suffixes of the names of the joints that support the body


@dataclass(frozen=True)
class Clip:
    """`times` (T,) seconds from 0, `root_positions` (T, 3) metres, `rotations` (T, 13, 4) local quaternions."""

    times: np.ndarray
    root_positions: np.ndarray
    rotations: np.ndarray

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the last."""
        return float(self.times[-1])


def combine_clips(legs: Clip, rest: Clip) -> Clip:
    """Root and legs of one clip with chest, neck and arms of another, stretched to the first one's duration.

    The result is a new motion for models that have seen both.
    """
    pace = rest.duration / legs.duration
    rotations = legs.rotations.copy()
    above = [number for number, name in enumerate(JOINT_NAMES) if not name.endswith(LEGS)]
    for frame, seconds in enumerate(legs.times):
        rotations[frame, above] = sample_clip(rest, seconds * pace)[1][above]
    return Clip(legs.times, legs.root_positions, rotations)


def parse_clip(frames: np.ndarray) -> Clip:
    """Frames (T, 44) as in the files => a clip whose hinges are quaternions like all other joints."""
    times = np.concatenate([[0.0], np.cumsum(frames[:-1, 0])])
    columns = np.split(frames[:, 4:], np.cumsum([size for _, size in JOINTS.values()])[:-1], axis=1)
    rotations = np.stack([_hinge(part[:, 0]) if part.shape[1] == 1 else part for part in columns], axis=1)
    return Clip(times, frames[:, 1:4], rotations / np.linalg.norm(rotations, axis=-1, keepdims=True))


def mirror_clip(clip: Clip) -> Clip:
    """The mirrored clip: left and right are swapped (reflection in the plane z = 0)."""
    swap = {"left": "right", "right": "left"}
    names = [f"{swap[side]}_{rest}" if rest else side for side, _, rest in (n.partition("_") for n in JOINT_NAMES)]
    order = [JOINT_NAMES.index(name) for name in names]
    return Clip(clip.times, clip.root_positions * [1, 1, -1], clip.rotations[:, order] * [1, -1, -1, 1])


def reverse_clip(clip: Clip) -> Clip:
    """The clip played backwards."""
    return Clip(clip.duration - clip.times[::-1], clip.root_positions[::-1], clip.rotations[::-1])


def turn_clip(clip: Clip) -> Clip:
    """The clip, turned about the vertical to face +x and moved above the origin in its first frame."""
    forward = rotation_matrix(clip.rotations[0, 0])[:, 0]  # the root's +x axis in the world
    half = np.arctan2(forward[2], forward[0]) / 2
    turn = np.array([np.cos(half), 0.0, np.sin(half), 0.0])
    rotations = clip.rotations.copy()
    rotations[:, 0] = [multiply(turn, root) for root in clip.rotations[:, 0]]
    positions = clip.root_positions - clip.root_positions[0] * [1, 0, 1]
    return Clip(clip.times, positions @ rotation_matrix(turn).T, rotations)


def sample_clip(clip: Clip, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Root position (3,) and local rotations (13, 4) at `seconds`, clamped to the clip."""
    later = int(np.clip(np.searchsorted(clip.times, seconds, side="right"), 1, len(clip.times) - 1))
    before, after = clip.times[later - 1], clip.times[later]
    weight = float(np.clip((seconds - before) / (after - before), 0.0, 1.0))
    position = (1 - weight) * clip.root_positions[later - 1] + weight * clip.root_positions[later]
    return position, slerp(clip.rotations[later - 1], clip.rotations[later], weight)


def world_rotations(rotations: np.ndarray) -> dict[str, np.ndarray]:
    """Local quaternions (13, 4) => joint → world rotation (4,), the parent's times the local one."""
    world: dict[str, np.ndarray] = {}
    for (name, (parent, _)), local in zip(JOINTS.items(), rotations, strict=True):
        world[name] = local if parent is None else multiply(world[parent], local)
    return world


def slerp(start: np.ndarray, end: np.ndarray, weight: float) -> np.ndarray:
    """Spherical interpolation of unit quaternions (…, 4) along the shorter arc; `weight` in [0, 1]."""
    cosine = np.sum(start * end, axis=-1, keepdims=True)
    end = np.where(cosine < 0, -end, end)
    angle = np.arccos(np.clip(np.abs(cosine), 0.0, 1.0))
    sine = np.sin(angle)
    # Below a milliradian, division by the sine is unstable, and linear interpolation is as good.
    safe = np.where(sine < 1e-3, 1.0, sine)
    mix_start = np.where(sine < 1e-3, 1 - weight, np.sin((1 - weight) * angle) / safe)
    mix_end = np.where(sine < 1e-3, weight, np.sin(weight * angle) / safe)
    mixed = mix_start * start + mix_end * end
    return mixed / np.linalg.norm(mixed, axis=-1, keepdims=True)


def multiply(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Product of quaternions (4,): first `right`, then `left`."""
    w, v = left[0], left[1:]
    x, u = right[0], right[1:]
    return np.concatenate([[w * x - v @ u], w * u + x * v + np.cross(v, u)])


def rotation_matrix(quaternion: np.ndarray) -> np.ndarray:
    """Unit quaternion (4,) => rotation matrix (3, 3)."""
    w, x, y, z = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _hinge(angles: np.ndarray) -> np.ndarray:
    """Angles (T,) in radians about z => quaternions (T, 4)."""
    zeros = np.zeros_like(angles)
    return np.stack([np.cos(angles / 2), zeros, zeros, np.sin(angles / 2)], axis=1)
