import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_scenes import poses_bounds, ring_cameras

from fourdistill.geometry.poses import (
    compose,
    inverse,
    is_rigid,
    llff_to_opencv,
    opengl_to_opencv,
    qualisys_to_opencv,
    relative_pose,
)


@st.composite
def poses(draw):
    """A random rigid transform (4, 4), drawn from a seed so that rotations are uniform."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    q[:, 0] *= np.sign(np.linalg.det(q))
    return compose(q, rng.normal(size=3) * 10)


@given(poses())
def test_inverse_undoes(pose):
    np.testing.assert_allclose(inverse(pose) @ pose, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(inverse(pose), np.linalg.inv(pose), atol=1e-10)


@given(poses(), poses())
def test_relative_pose_takes_target_points_to_the_source_camera(source, target):
    point = np.array([0.3, -0.2, 2.0, 1.0])  # in the target's camera frame
    np.testing.assert_allclose(source @ relative_pose(source, target) @ point, target @ point, atol=1e-9)


@given(poses(), poses(), poses())
def test_relative_pose_ignores_the_world(world, source, target):
    np.testing.assert_allclose(relative_pose(world @ source, world @ target), relative_pose(source, target), atol=1e-9)


def test_poses_are_batched():
    cameras = ring_cameras(5)
    batched = relative_pose(cameras[:-1], cameras[1:])
    assert batched.shape == (4, 4, 4)
    np.testing.assert_allclose(batched[2], relative_pose(cameras[2], cameras[3]))


@given(poses())
def test_llff_round_trip(pose):
    rows = poses_bounds(pose[None])
    np.testing.assert_allclose(llff_to_opencv(rows[0, :15].reshape(3, 5)[:, :4]), pose, atol=1e-12)


def test_llff_of_a_known_camera():
    # A camera at the origin looks along world +z, with world +x to its right: down is +y, back is -z.
    llff = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0]], float)
    np.testing.assert_array_equal(llff_to_opencv(llff), np.eye(4))


def test_opengl_and_llff_agree():
    # OpenGL columns are (right, up, back) = LLFF's (c1, -c0, c2).
    llff = poses_bounds(ring_cameras(3))[:, :15].reshape(-1, 3, 5)[:, :, :4]
    opengl = compose(np.stack([llff[..., 1], -llff[..., 0], llff[..., 2]], axis=-1), llff[..., 3])
    np.testing.assert_allclose(opengl_to_opencv(opengl), llff_to_opencv(llff))


def test_qualisys_is_world_to_camera_in_opengl_axes_and_millimetres():
    pose = ring_cameras(5)[3]
    rotation = np.diag([1, -1, -1]) @ pose[:3, :3].T
    np.testing.assert_allclose(qualisys_to_opencv(rotation, pose[:3, 3] * 1000), pose, atol=1e-12)


@given(poses())
def test_rigid_transforms_are_recognised(pose):
    assert is_rigid(pose)


@pytest.mark.parametrize(
    "damage",
    [
        lambda pose: pose * np.array([1, 1, -1, 1]),  # a reflection
        lambda pose: pose * np.array([1.1, 1, 1, 1]),  # a scaling
        lambda pose: np.where(np.eye(4) == 1, np.nan, pose),
        lambda pose: pose + np.array([0, 0, 0, 1]) * np.eye(4)[3][:, None],  # a last row that is not (0, 0, 0, 1)
        lambda pose: pose[:3],
    ],
)
def test_other_matrices_are_refused(damage):
    assert not is_rigid(damage(ring_cameras(4)[1]))
