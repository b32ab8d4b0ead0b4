import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_geometry_poses import poses
from tiny_scenes import ring_cameras

from fourdistill.geometry.scene_frame import fit_scene_frame, orbit, spherical, spherical_delta, wrap_angle

angles = st.floats(-50, 50)


@given(angles)
def test_wrap_angle_is_the_same_angle_within_half_a_turn(angle):
    wrapped = wrap_angle(angle)
    assert -np.pi <= wrapped <= np.pi
    np.testing.assert_allclose([np.cos(wrapped), np.sin(wrapped)], [np.cos(angle), np.sin(angle)], atol=1e-9)


def test_a_ring_is_recovered():
    frame = fit_scene_frame(ring_cameras(7, radius=3.0, elevation=0.3, center=(1, 2, 3)))
    assert frame is not None
    np.testing.assert_allclose(frame.center, [1, 2, 3], atol=1e-9)
    np.testing.assert_allclose(frame.axes[2], [0, 0, 1], atol=1e-9)
    np.testing.assert_allclose(frame.axes @ frame.axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(frame.axes) > 0
    np.testing.assert_allclose(frame.scale, 3.0)


def test_azimuth_grows_counter_clockwise_from_above_and_elevation_upwards():
    low, high = ring_cameras(8, elevation=0.2), ring_cameras(8, elevation=0.5)
    frame = fit_scene_frame(np.concatenate([low, high]))
    assert frame is not None
    delta = spherical_delta(spherical(frame, low[:-1]), spherical(frame, high[1:]))
    np.testing.assert_allclose(delta[:, 0], np.full(7, np.pi / 4), atol=1e-9)
    np.testing.assert_allclose(delta[:, 1], np.full(7, 0.3), atol=1e-9)
    np.testing.assert_allclose(delta[:, 2], 0, atol=1e-9)


def test_the_short_way_round():
    cameras = ring_cameras(8)
    frame = fit_scene_frame(cameras)
    assert frame is not None
    positions = spherical(frame, cameras)
    delta = spherical_delta(positions, np.roll(positions, -1, axis=0))  # includes the step across the seam
    np.testing.assert_allclose(delta[:, 0], np.pi / 4, atol=1e-9)


@given(poses(), st.floats(0.1, 100))
def test_deltas_depend_on_the_scene_not_on_the_world_or_its_units(world, unit):
    cameras = ring_cameras(6)
    moved = world @ cameras
    moved[:, :3, 3] *= unit
    deltas = []
    for c2w in (cameras, moved):
        frame = fit_scene_frame(c2w)
        assert frame is not None
        positions = spherical(frame, c2w)
        deltas.append(spherical_delta(positions[:-1], positions[1:]))
    np.testing.assert_allclose(deltas[0], deltas[1], atol=1e-6)


@given(st.floats(-3, 3), st.floats(-0.5, 0.5), st.floats(-0.5, 2))
def test_orbit_moves_by_what_is_asked_and_keeps_the_view(azimuth, elevation, radius):
    cameras = ring_cameras(6)
    frame = fit_scene_frame(cameras)
    assert frame is not None
    moved = orbit(frame, cameras[2], (azimuth, elevation, radius))
    delta = spherical_delta(spherical(frame, cameras[2]), spherical(frame, moved))
    np.testing.assert_allclose(delta, [azimuth, elevation, radius], atol=1e-9)
    to_center = frame.center - moved[:3, 3]
    np.testing.assert_allclose(moved[:3, 2], to_center / np.linalg.norm(to_center), atol=1e-9)  # looks at the centre
    assert abs(moved[2, 0]) < 1e-9  # stays level


@pytest.mark.parametrize("cameras", [ring_cameras(4)[:1], np.tile(np.eye(4), (3, 1, 1))])
def test_no_centre_no_frame(cameras):
    assert fit_scene_frame(cameras) is None


def test_parallel_axes_have_no_centre():
    stereo = np.tile(np.eye(4), (2, 1, 1))
    stereo[1, 0, 3] = 0.1
    assert fit_scene_frame(stereo) is None
