import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from motion import (
    JOINT_NAMES,
    Clip,
    combine_clips,
    mirror_clip,
    multiply,
    parse_clip,
    rotation_matrix,
    sample_clip,
    slerp,
    world_rotations,
)

MIRROR = np.diag([1.0, 1.0, -1.0])
QUATERNION = st.integers(0, 2**32 - 1).map(lambda seed: unit(np.random.default_rng(seed).normal(size=4)))


def unit(values):
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def about_z(degrees):
    half = np.deg2rad(degrees) / 2
    return np.array([np.cos(half), 0, 0, np.sin(half)])


@pytest.fixture
def clip():
    generator = np.random.default_rng(3)
    return Clip(np.array([0.0, 0.1, 0.3]), generator.normal(size=(3, 3)), unit(generator.normal(size=(3, 13, 4))))


def test_legs_of_one_clip_with_the_rest_of_another(clip):
    generator = np.random.default_rng(4)
    rest = Clip(np.array([0.0, 3.0]), generator.normal(size=(2, 3)), unit(generator.normal(size=(2, 13, 4))))
    both = combine_clips(clip, rest)
    assert both.duration == clip.duration and np.array_equal(both.root_positions, clip.root_positions)
    legs = [JOINT_NAMES.index(name) for name in ("root", "right_hip", "left_knee", "left_ankle")]
    arms = [JOINT_NAMES.index(name) for name in ("chest", "neck", "right_shoulder", "left_elbow")]
    assert np.array_equal(both.rotations[:, legs], clip.rotations[:, legs])
    assert np.allclose(both.rotations[1, arms], sample_clip(rest, 1.0)[1][arms])  # a third of the way


def test_parse_clip():
    # three frames of 0.5 s: a knee bends by 0.2 rad per frame, other joints rest
    frames = np.zeros((3, 44))
    frames[:, 0], frames[:, 1] = 0.5, [0, 1, 2]
    column = 4
    for name in JOINT_NAMES:
        hinge = name.endswith(("knee", "elbow"))
        if not hinge:
            frames[:, column] = 1.0
        elif name == "right_knee":
            frames[:, column] = [0.0, 0.2, 0.4]
        column += 1 if hinge else 4
    assert column == 44
    clip = parse_clip(frames)
    assert clip.duration == 1.0
    np.testing.assert_array_equal(clip.root_positions[:, 0], [0, 1, 2])
    knee = JOINT_NAMES.index("right_knee")
    np.testing.assert_allclose(clip.rotations[2, knee], about_z(np.rad2deg(0.4)))
    np.testing.assert_array_equal(np.delete(clip.rotations[2], knee, axis=0), np.tile([1, 0, 0, 0], (12, 1)))


def test_sample_clip_meets_the_frames_and_stays_within_them(clip):
    for index, seconds in enumerate(clip.times):
        position, rotations = sample_clip(clip, seconds)
        np.testing.assert_allclose(position, clip.root_positions[index])
        np.testing.assert_allclose(np.abs(np.sum(rotations * clip.rotations[index], axis=1)), 1)
    for outside, frame in ((-1.0, 0), (9.0, -1)):
        np.testing.assert_allclose(sample_clip(clip, outside)[0], clip.root_positions[frame])


def test_slerp_turns_evenly_along_the_shorter_arc():
    np.testing.assert_allclose(slerp(about_z(10), about_z(50), 0.25), about_z(20))
    np.testing.assert_allclose(slerp(about_z(10), -about_z(50), 0.25), about_z(20))
    np.testing.assert_allclose(slerp(about_z(10), about_z(10.001), 0.5), about_z(10.0005))


@given(QUATERNION, QUATERNION)
def test_products_of_quaternions_are_products_of_rotations(left, right):
    product = rotation_matrix(left) @ rotation_matrix(right)
    np.testing.assert_allclose(rotation_matrix(multiply(left, right)), product, atol=1e-12)
    np.testing.assert_allclose(product @ product.T, np.eye(3), atol=1e-12)


def test_mirror_clip_reflects_every_joint(clip):
    mirrored = mirror_clip(clip)
    np.testing.assert_allclose(mirrored.root_positions, clip.root_positions @ MIRROR)
    world, world_mirrored = world_rotations(clip.rotations[1]), world_rotations(mirrored.rotations[1])
    for name, rotation in world.items():
        swapped = {"left": "right", "right": "left"}.get(name.split("_")[0], "") + "_" + name.split("_")[-1]
        other = world_mirrored[swapped if "_" in name else name]
        np.testing.assert_allclose(rotation_matrix(other), MIRROR @ rotation_matrix(rotation) @ MIRROR, atol=1e-12)
    twice = mirror_clip(mirrored)
    np.testing.assert_array_equal(twice.rotations, clip.rotations)
