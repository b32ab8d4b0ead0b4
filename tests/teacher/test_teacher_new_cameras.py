from dataclasses import replace

import numpy as np
import pytest
from ball_scene import ball_scene

from fourdistill.errors import InputError
from fourdistill.geometry.displacement import FRAME
from fourdistill.geometry.scene_frame import orbit, spherical
from fourdistill.teacher.new_cameras import best_surrounded, draw_cameras, find_gaps, pose_between


@pytest.fixture(scope="module")
def scene():
    return ball_scene()


def degrees(angles):
    return np.degrees(angles).round(3)


def test_a_ring_has_as_many_gaps_as_cameras_and_an_arc_one_less(scene):
    assert degrees([gap.angle for gap in find_gaps(scene)]).tolist() == [60] * 6
    arc = scene.without(["cam3", "cam4", "cam5"])
    assert degrees([gap.angle for gap in find_gaps(arc)]).tolist() == [60, 60]


def test_cameras_half_a_turn_apart_have_nothing_between(scene):
    with pytest.raises(InputError, match="less than half a turn"):
        find_gaps(scene.without(["cam1", "cam2", "cam4", "cam5"]))


def test_a_wide_gap_gets_more_cameras(scene):
    drawn = draw_cameras(scene.without(["cam1"]), 6, np.random.default_rng(0))
    wide = [camera for camera in drawn if degrees(camera.gap.angle) == 120]
    assert len(drawn) == 6 and len(wide) == 2
    assert 0 <= wide[0].share < 0.5 <= wide[1].share < 1  # one in each half


def test_places_are_random_and_seeded(scene):
    draws = [[camera.share for camera in draw_cameras(scene, 6, np.random.default_rng(seed))] for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert len(set(draws[0])) == 6


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.0])
def test_elevation_and_radius_are_interpolated(scene, share):
    first = scene.c2w[0, 0]
    second = orbit(FRAME, first, [1.0, 0.2, 0.3])
    place = spherical(FRAME, pose_between(first, second, share))
    np.testing.assert_allclose(place - spherical(FRAME, first), np.array([1.0, 0.2, 0.3]) * share, atol=1e-9)


def test_it_looks_at_the_scene_and_is_seen_at_every_instant(scene):
    camera = draw_cameras(scene, 1, np.random.default_rng(0))[0]
    poses = camera.c2w(scene)
    assert poses.shape == (4, 4, 4) and camera.K(scene).shape == (4, 3, 3)
    to_center = -poses[:, :3, 3] / np.linalg.norm(poses[:, :3, 3], axis=1, keepdims=True)
    np.testing.assert_allclose(poses[:, :3, 2], to_center, atol=1e-6)


def test_the_best_surrounded_camera_is_held_out(scene):
    assert best_surrounded(scene.without(["cam1"])) == "cam3"
    assert best_surrounded(replace(scene, cameras=tuple("abcdef"))) == "a"
