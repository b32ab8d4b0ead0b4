"""Recordings => the joints of motion.py: synthetic ones with known answers, and the shipped file."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from body import build_body
from bvh import Recording, axis_rotation, read_bvh
from clips import RECORDINGS
from hypothesis import given
from hypothesis import strategies as st
from motion import JOINT_NAMES, parse_clip, rotation_matrix, world_rotations
from retarget import (
    SOURCES,
    STANDARD_SHAPE,
    Source,
    limb_rotations,
    matrix_quaternions,
    pack,
    retarget,
    standing_heights,
)
from safetensors.numpy import load
from skinning import rig_body

from fourdistill.errors import InputError

DEBIAN = Path("/usr/share/assimp/models/BVH")
ARMS = ("{}Shoulder", "{}Elbow", "{}Wrist")
SOURCE = Source("made.bvh", ("Hips", "Chest", "Head"), ("{}Hip", "{}Knee", "{}Ankle"), ARMS, rest=None, jumps=False)
# A figure with spread arms in BVH's axes (y up, +z forward, +x to its left); units of 10 cm.
FIGURE = {
    "Hips": ("", (0, 0, 0)), "Chest": ("Hips", (0, 4, 0)), "Head": ("Chest", (0, 3, 0)),
    "LeftShoulder": ("Chest", (2, 2, 0)), "LeftElbow": ("LeftShoulder", (3, 0, 0)),
    "LeftWrist": ("LeftElbow", (2, 0, 0)),
    "RightShoulder": ("Chest", (-2, 2, 0)), "RightElbow": ("RightShoulder", (-3, 0, 0)),
    "RightWrist": ("RightElbow", (-2, 0, 0)),
    "LeftHip": ("Hips", (1, 0, 0)), "LeftKnee": ("LeftHip", (0, -4, 0)), "LeftAnkle": ("LeftKnee", (0, -4, 0)),
    "RightHip": ("Hips", (-1, 0, 0)), "RightKnee": ("RightHip", (0, -4, 0)), "RightAnkle": ("RightKnee", (0, -4, 0)),
}  # fmt: skip
SEEDS = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def made(num_frames, **turns):
    """A recording of FIGURE; `turns`: joint → (axis in BVH's axes, degrees (T,)). Hinges bend in the last frame."""
    names = tuple(FIGURE)
    parents = tuple(names.index(parent) if parent else -1 for parent, _ in FIGURE.values())
    rotations = np.tile(np.eye(3), (num_frames, len(names), 1, 1))
    hint = np.where(np.arange(num_frames) == num_frames - 1, 10.0, 0.0)
    hints = {"LeftKnee": ("x", hint), "RightKnee": ("x", hint), "LeftElbow": ("y", -hint), "RightElbow": ("y", hint)}
    for joint, (axis, degrees) in (hints | turns).items():
        rotations[:, names.index(joint)] = axis_rotation("xyz".index(axis), np.deg2rad(degrees))
    translations = np.tile(np.array([offset for _, offset in FIGURE.values()], dtype=float), (num_frames, 1, 1))
    return Recording(names, parents, np.full((len(names), 3), np.nan), 1 / 30, translations, rotations)


@pytest.fixture(scope="module")
def standard(wheels):
    return rig_body(build_body(wheels, STANDARD_SHAPE))


def angle(clip, joint):
    """Rotation of a hinge about z, degrees (T,)."""
    w, x, y, z = clip.rotations[:, JOINT_NAMES.index(joint)].T
    np.testing.assert_allclose([x, y], 0, atol=1e-9)
    return np.rad2deg(2 * np.arctan2(z, w) + np.pi) % 360 - 180


@pytest.mark.network
def test_knees_bend_back_and_elbows_forward_and_the_rest_stays(standard):
    bend = np.linspace(0, 120, 5)
    clip = retarget(made(5, LeftKnee=("x", bend), RightElbow=("y", bend)), SOURCE, standard)
    np.testing.assert_allclose(angle(clip, "left_knee"), -bend, atol=1e-6)
    np.testing.assert_allclose(angle(clip, "right_elbow"), bend, atol=1e-6)
    np.testing.assert_allclose(angle(clip, "right_knee"), [0, 0, 0, 0, -10], atol=1e-6)
    np.testing.assert_allclose(angle(clip, "left_elbow"), [0, 0, 0, 0, 10], atol=1e-6)
    for joint in ("root", "chest", "neck", "right_hip", "left_hip", "right_ankle"):
        still = clip.rotations[:, JOINT_NAMES.index(joint)]
        np.testing.assert_allclose(np.abs(still[:, 0]), 1, atol=1e-9)
    # The left foot turns with the shin in the world; our ankle is relative to the shin and so does not turn.
    np.testing.assert_allclose(np.abs(clip.rotations[:, JOINT_NAMES.index("left_ankle"), 0]), 1, atol=1e-9)


@pytest.mark.network
def test_spread_arms_are_spread_and_where_it_faces_is_kept(standard):
    clip = retarget(made(2, Hips=("y", np.array([0.0, 90.0]))), SOURCE, standard)
    directions = {"left": [0, 0, -1], "right": [0, 0, 1]}  # +z is to the person's right
    for frame, turn in enumerate((0.0, np.pi / 2)):
        world = world_rotations(clip.rotations[frame])
        about_y = axis_rotation(1, np.array([turn]))[0]
        np.testing.assert_allclose(rotation_matrix(world["root"]), about_y, atol=1e-9)
        for side, direction in directions.items():
            arm = rotation_matrix(world[f"{side}_shoulder"]) @ [0, -1, 0]
            np.testing.assert_allclose(arm, about_y @ direction, atol=1e-9)


@pytest.mark.network
def test_a_limb_that_never_bends_has_no_hinge(standard):
    stiff = made(2, LeftElbow=("y", np.zeros(2)))
    with pytest.raises(InputError, match=r"made\.bvh: LeftElbow: expected it to bend in some frame"):
        retarget(stiff, SOURCE, standard)


@given(SEEDS, st.sampled_from([-1, 1]))
def test_a_limbs_bones_point_where_they_did(generator, sign):
    """For any joints, the two rotations align the resting limb, which hangs down, with both bones."""
    frames = 6
    turned = np.linalg.qr(generator.normal(size=(frames, 3, 3)))[0]
    turned *= np.linalg.det(turned)[:, None, None]
    angles = sign * generator.uniform(0.0, 2.5, frames)
    down = np.array([0.0, -1.0, 0.0])
    axis = generator.normal(size=3) * [1, 0, 1]  # of the hinge, perpendicular to the bone
    axis /= np.linalg.norm(axis)
    across = np.cross(axis, np.eye(3)).T
    hinges = np.eye(3) + np.sin(angles)[:, None, None] * across + (1 - np.cos(angles))[:, None, None] * across @ across
    upper, lower = turned @ down, turned @ hinges @ down
    joints = np.stack([np.zeros((frames, 3)), 0.4 * upper, 0.4 * upper + 0.3 * lower], axis=1)
    first, hinge = limb_rotations(joints, turned, sign)
    np.testing.assert_allclose(first @ first.transpose(0, 2, 1), np.tile(np.eye(3), (frames, 1, 1)), atol=1e-9)
    np.testing.assert_allclose(first @ down, upper, atol=1e-9)
    np.testing.assert_allclose(first @ hinge @ down, lower, atol=1e-6)
    np.testing.assert_allclose(hinge[:, 2, 2], 1)  # only about z
    assert (sign * hinge[:, 1, 0] >= -1e-12).all()


@given(SEEDS)
def test_quaternions_of_matrices_are_theirs_and_do_not_jump(generator):
    steps = np.array([1, 0, 0, 0]) + generator.normal(scale=0.2, size=(20, 4))
    matrices = [np.eye(3)]
    for step in steps / np.linalg.norm(steps, axis=1, keepdims=True):
        matrices.append(matrices[-1] @ rotation_matrix(step))
    quaternions = matrix_quaternions(np.array(matrices))
    np.testing.assert_allclose([rotation_matrix(quaternion) for quaternion in quaternions], matrices, atol=1e-9)
    assert (np.sum(quaternions[1:] * quaternions[:-1], axis=1) > 0).all()


@pytest.mark.network
def test_the_lowest_point_but_the_hands_is_on_the_floor(standard):
    frames = np.zeros((1, 44))
    frames[:, [4, 8, 12, 16, 21, 25, 30, 35, 39]] = 1.0
    frames[:, [20, 34]] = -1.5  # both knees
    standing = parse_clip(np.concatenate([frames, frames])).rotations[:1]
    bent = standing_heights(standard, standing)[0]
    straight = standing_heights(standard, np.tile([1.0, 0, 0, 0], (1, 13, 1)))[0]
    assert straight == pytest.approx(standard.hip_height, abs=0.02)
    assert bent < straight - 0.02


@pytest.mark.network
@pytest.mark.skipif(not DEBIAN.is_dir(), reason="apt-get install assimp-testmodels")
@pytest.mark.parametrize("name", ["playground_jumps"])  # the shortest; each takes seconds
def test_the_shipped_file_is_what_the_recordings_give(standard, name):
    made_now = load(pack({name: retarget(read_bvh(DEBIAN / SOURCES[name].file), SOURCES[name], standard)}))
    shipped = load(RECORDINGS.read_bytes())
    for key, values in made_now.items():
        np.testing.assert_allclose(values, shipped[key], atol=1e-4)


def test_files_that_are_not_there_are_one_line_and_status_2(tmp_path):
    script = RECORDINGS.with_name("retarget.py")
    command = [sys.executable, script, "--bvh", tmp_path, "--out", tmp_path / "out.safetensors"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == (
        f"error: {tmp_path / '01_01.bvh'}: expected this file: `apt-get install assimp-testmodels`\n"
    )
    assert not list(tmp_path.iterdir())
