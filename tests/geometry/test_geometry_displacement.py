import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_geometry_poses import poses
from tiny_scenes import ring_cameras

from fourdistill.errors import InputError
from fourdistill.geometry.displacement import SOURCE, STANDING_STILL, Displacement, Placement, degrees_off_center
from fourdistill.geometry.poses import compose, inverse, relative_pose
from fourdistill.geometry.scene_frame import fit_scene_frame, orbit, spherical

shares = st.none() | st.floats(-1, 1)
degrees = st.none() | st.floats(-180, 180)


def placed(cameras, times, seconds=2.0):
    """Placement of `cameras` (on a ring of eight; None: no pose) at `times` of a scene of `seconds`."""
    ring = ring_cameras(8)
    frame = fit_scene_frame(ring)
    assert frame is not None
    c2w = np.stack([np.full((4, 4), np.nan) if camera is None else ring[camera] for camera in cameras])
    times = np.array(times, np.float64)
    return Placement(times, seconds * times, c2w, spherical(frame, c2w), np.full(len(c2w), frame.scale))


@given(shares, degrees, st.none() | st.floats(-80, 80), st.none() | st.floats(0.01, 10))
def test_what_users_say_comes_back(time, azimuth, elevation, radius):
    told = Displacement.from_user(time, azimuth, elevation, radius).to_user()
    assert told["time"] == (None if time is None else pytest.approx(time))
    view = (azimuth, elevation, radius)
    given = [value if value is not None else usual for value, usual in zip(view, (0, 0, 1), strict=True)]
    expected = [None] * 3 if view == (None, None, None) else [pytest.approx(value, abs=1e-9) for value in given]
    assert [told["azimuth"], told["elevation"], told["radius"]] == expected


@given(st.floats(-179, 179), st.floats(-80, 80), st.floats(0.01, 10))
def test_degrees_and_pose_are_two_forms_of_one_displacement(azimuth, elevation, radius):
    one = Displacement.from_user(azimuth=azimuth, elevation=elevation, radius=radius)
    other = Displacement.from_user(relative_pose=one.relative_pose.reshape(3, 4))
    for name in ("azimuth", "elevation", "radius", "relative_pose"):
        np.testing.assert_allclose(getattr(other, name), getattr(one, name), atol=1e-6)


@given(st.floats(-179, 179), st.floats(-80, 80), st.floats(0.01, 10), st.floats(0, 180), st.floats(0, 2 * np.pi))
def test_a_turn_on_the_spot_is_what_azimuth_elevation_and_radius_leave_out(azimuth, elevation, radius, turn, way):
    there = Displacement.from_user(azimuth=azimuth, elevation=elevation, radius=radius)
    pose = np.vstack([there.relative_pose.reshape(3, 4), [0, 0, 0, 1]])
    assert degrees_off_center(pose[:3]) == pytest.approx(0, abs=1e-3)
    x, y, angle = np.cos(way), np.sin(way), np.radians(turn)
    cross = np.array([[0, 0, y], [0, 0, -x], [-y, x, 0]])  # about an axis across the view
    about = compose(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross, np.zeros(3))
    turned = Displacement.from_user(relative_pose=pose @ about)
    assert degrees_off_center(pose @ about) == pytest.approx(turn, abs=1e-3)
    for name in ("azimuth", "elevation", "radius"):
        np.testing.assert_allclose(getattr(turned, name), getattr(there, name), atol=1e-6)


def test_a_camera_in_the_centre_looks_nowhere_else():
    assert degrees_off_center([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]]) == 0


@given(poses(), st.integers(0, 7), st.integers(0, 7), st.floats(-0.5, 0.5), st.floats(0.5, 2))
def test_two_frames_give_what_a_user_would_have_to_say(world, start, azimuth, elevation, radius):
    """A camera that looks at the centre from a distance of one scale is the canonical one, whatever the world axes."""
    ring = ring_cameras(8, elevation=0.0)
    frame = fit_scene_frame(ring)
    assert frame is not None
    source, cameras = world @ ring[start], world @ ring
    moved_frame = fit_scene_frame(cameras)
    assert moved_frame is not None
    target = orbit(moved_frame, source, [azimuth * np.pi / 4, elevation, radius - 1])
    c2w = np.stack([source, target])
    scale = np.full(2, moved_frame.scale)
    seen = Placement(np.array([0.2, 0.7]), np.array([0.0, 1.0]), c2w, spherical(moved_frame, c2w), scale)
    found = Displacement.from_frames(seen[0], seen[1], True, True, None)
    said = Displacement.from_user(0.5, azimuth * 45, np.degrees(elevation), radius)
    turns = (found.azimuth - said.azimuth) / (2 * np.pi)
    assert turns == pytest.approx(round(float(turns)), abs=1e-6)
    for name in ("time", "elevation", "radius", "relative_pose"):
        np.testing.assert_allclose(getattr(found, name), getattr(said, name), atol=1e-5)


def test_it_is_target_minus_source():
    seen = placed([0, 1], [0.25, 0.75])
    there = Displacement.from_frames(seen[:1], seen[1:], [True], [True], None)
    assert (there.time[0], there.azimuth[0]) == pytest.approx((0.5, np.pi / 4))
    back = Displacement.from_frames(seen[1:], seen[:1], [True], [True], max_gap_s=4.0)
    assert (back.time[0], back.azimuth[0]) == pytest.approx((-0.25, -np.pi / 4))  # 0.5 of 2 s, relative to 4 s
    pose = relative_pose(seen.c2w[1], seen.c2w[0])[:3]
    pose[:, 3] /= 3
    np.testing.assert_allclose(back.relative_pose[0], pose.reshape(12))


def test_what_is_absent_is_that_of_standing_still():
    seen, targets = placed([0, 0, 0], [0.0, 0.0, 0.0]), placed([2, 2, None], [1.0, 1.0, 1.0])
    several = Displacement.from_frames(
        seen, targets, np.array([True, False, True]), np.array([False, True, True]), None
    )
    assert several.has_time.tolist() == [True, False, True] and several.time.tolist() == [1, 0, 1]
    assert several.has_view.tolist() == [False, True, False]  # the last one's target has no pose
    assert several.azimuth == pytest.approx([0, np.pi / 2, 0])
    assert np.array_equal(several.relative_pose[[0, 2]], np.stack([STANDING_STILL] * 2))
    nothing = Displacement.from_user()
    assert not nothing.has_time and not nothing.has_view and nothing == nothing.still()
    assert Displacement.from_user(azimuth=0).has_view and Displacement.from_user(time=0).has_time


def test_the_pairs_table_has_the_papers_sign():
    delta, pose = [[0.1, 0.2, 0.3], [np.nan] * 3], [np.arange(12), [np.nan] * 12]
    pairs = Displacement.from_pairs(["joint", "time"], [0.5, -0.25], pose, delta)
    assert pairs.time.tolist() == [-0.5, 0.25] and pairs.azimuth.tolist() == [0.1, 0.0]
    assert pairs.has_time.tolist() == [True, True] and pairs.has_view.tolist() == [True, False]
    assert pairs[0].relative_pose.tolist() == list(range(12)) and pairs[1].to_user() == {
        "time": 0.25, "azimuth": None, "elevation": None, "radius": None
    }  # fmt: skip


def test_one_and_several():
    ones = [Displacement.from_user(0.5), Displacement.from_user(azimuth=90)]
    batch = Displacement.merge(ones, np.stack)
    assert len(batch) == 2 and list(batch) == ones and len({*ones, batch[0]}) == 2
    assert batch[1:].azimuth == pytest.approx([np.pi / 2])
    kept = batch.masked(time=np.array([False, True]), view=np.array([True, True]))
    assert kept.has_time.tolist() == [False, False] and kept.has_view.tolist() == [False, True]
    still = batch.still()
    assert still.has_view.tolist() == [False, True] and not still.azimuth.any() and not still.time.any()


def test_azimuth_turns_the_camera_counter_clockwise_about_the_centre():
    pose = Displacement.from_user(azimuth=90).relative_pose
    moved = SOURCE @ np.vstack([pose.reshape(3, 4), [0, 0, 0, 1]])
    assert moved[:3, 3] == pytest.approx([0, 1, 0])  # from east to north
    assert moved[:3, 2] == pytest.approx([0, -1, 0])  # still looking at the centre
    assert moved[:3, 1] == pytest.approx([0, 0, -1])  # y is down
    np.testing.assert_allclose(inverse(SOURCE) @ moved, np.vstack([pose.reshape(3, 4), [0, 0, 0, 1]]), atol=1e-12)


def test_radius_is_a_factor_of_the_distance_and_inside_a_difference():
    closer = Displacement.from_user(radius=1.5)
    assert closer.radius == pytest.approx(0.5)
    assert closer.relative_pose.reshape(3, 4) == pytest.approx(np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, -0.5]]))
    beyond = Displacement.from_pairs(["view"], [0.0], [STANDING_STILL], [[0.0, 0.0, -1.2]])[0]
    assert beyond.to_user()["radius"] == 1e-3  # no factor above 0 exists for it


def test_seconds_are_shares_of_how_long_the_scene_lasts():
    assert Displacement.from_user(seconds=-0.5, duration_s=2).time == -0.25


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"azimuth": 10, "relative_pose": np.eye(4)}, "^relative_pose: expected no azimuth"),
        ({"relative_pose": np.ones((3, 4))}, "^relative_pose: expected a rigid"),
        ({"relative_pose": np.eye(3)}, r"relative_pose: .*\(3, 3\)"),
        ({"azimuth": float("nan")}, "^azimuth: expected a finite"),
        ({"radius": -1.5}, "^radius: expected a factor of the source's distance, above 0, got -1.5"),
        ({"radius": 1001}, "^radius: expected a factor of the source's distance, up to 1000, got 1001"),
        ({"elevation": 200}, "^elevation: expected degrees from -180 to 180, got 200"),
        ({"azimuth": -4000}, "^azimuth: expected degrees from -3600 to 3600, got -4000"),
        ({"azimuth": "left"}, "^azimuth: expected a number, got 'left'"),
        ({"time": 1.5}, "^time: expected a share of the scene from -1 to 1, got 1.5"),
        ({"time": 0.1, "seconds": 1, "duration_s": 2}, "^seconds: expected no time"),
        ({"seconds": 1}, "^seconds: expected duration_s beside it"),
        ({"seconds": 1, "duration_s": 0}, "^duration_s: expected more than 0"),
        ({"seconds": 3, "duration_s": 2}, "^seconds: expected at most the scene's 2 s either way, got 3"),
        ({"time": 2, "where": "--"}, "^--time: expected a share"),
    ],
)
def test_what_is_no_displacement_names_the_argument(said, message):
    with pytest.raises(InputError, match=message):
        Displacement.from_user(**said)
