import numpy as np
import pytest

from fourdistill.errors import InputError
from fourdistill.inference.displacement import SOURCE, displacement_arguments, radius_factor, view_displacement
from fourdistill.inference.inputs import broadcast


def present(*values):
    displacement = view_displacement(*values)
    assert displacement is not None
    return displacement


def test_differences_of_the_distance_beyond_the_scale_stay_factors():
    np.testing.assert_allclose(radius_factor([-1.2, 0.0, 0.5]), [1e-3, 1.0, 1.5])


def test_degrees_and_pose_are_two_forms_of_one_displacement():
    delta, pose = present(40, 10, 1.2, None)
    assert delta == pytest.approx([np.radians(40), np.radians(10), 0.2])
    back, same = present(None, None, None, pose.reshape(3, 4))
    assert back == pytest.approx(delta, abs=1e-9)
    assert same == pytest.approx(pose)


def test_azimuth_turns_the_camera_counter_clockwise_about_the_centre():
    _, pose = present(90, None, None, None)
    moved = SOURCE @ np.vstack([pose.reshape(3, 4), [0, 0, 0, 1]])
    assert moved[:3, 3] == pytest.approx([0, 1, 0])  # from east to north
    assert moved[:3, 2] == pytest.approx([0, -1, 0])  # still looking at the centre
    assert moved[:3, 1] == pytest.approx([0, 0, -1])  # y is down


def test_radius_is_a_factor_of_the_distance():
    _, pose = present(None, None, 1.5, None)
    assert pose.reshape(3, 4) == pytest.approx(np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, -0.5]]))


def test_nothing_given_is_absent():
    assert view_displacement(None, None, None, None) is None
    assert view_displacement(0, None, None, None) is not None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((10, None, None, np.eye(4)), "relative_pose: expected no azimuth"),
        ((None, None, None, np.ones((3, 4))), "relative_pose: expected a rigid"),
        ((None, None, None, np.eye(3)), r"relative_pose: .*\(3, 3\)"),
        ((float("nan"), None, None, None), "finite"),
        ((None, None, -1.5, None), "radius: expected a factor of the source's distance, above 0, got -1.5"),
        ((None, 200, None, None), "elevation: expected degrees from -180 to 180, got 200"),
        (("left", None, None, None), "azimuth, elevation: expected a number, got 'left'"),
    ],
)
def test_bad_displacements_name_the_argument(values, message):
    with pytest.raises(InputError, match=message):
        view_displacement(*values)


def test_broadcast():
    pose = np.eye(4)[:3]
    lists = broadcast(time=np.array([0.1, 0.2]), prompt="a man", relative_pose=pose, azimuth=(None,))
    assert lists["time"] == [0.1, 0.2]
    assert lists["prompt"] == ["a man"] * 2
    assert lists["azimuth"] == [None] * 2
    assert [p.shape for p in lists["relative_pose"]] == [(3, 4)] * 2
    assert len(broadcast(relative_pose=[pose, None, pose])["relative_pose"]) == 3
    assert len(broadcast(relative_pose=pose.tolist())["relative_pose"]) == 1
    assert len(broadcast(relative_pose=np.stack([pose, pose]))["relative_pose"]) == 2
    with pytest.raises(InputError, match="time: expected 1 or 3 values, got 2"):
        broadcast(time=[0.1, 0.2], prompt=["a", "b", "c"])


def test_pairs_become_arguments_of_the_pipeline():
    has_time, has_view = [True, False], [False, True]
    spherical, poses = np.array([[0, 0, 0], [np.pi / 2, 0, 0.1]]), np.arange(24.0).reshape(2, 12)
    batch = {"time": ([0.5, 0], has_time), "spherical": (spherical, has_view), "relative_pose": (poses, has_view)}
    arguments = displacement_arguments("spherical", **batch)
    assert arguments == {
        "time": [0.5, None],
        "azimuth": [None, pytest.approx(90)],
        "elevation": [None, 0],
        "radius": [None, pytest.approx(1.1)],
    }
    arguments = displacement_arguments("matrix", **batch)
    assert arguments["time"] == [0.5, None] and arguments["relative_pose"][0] is None
    assert arguments["relative_pose"][1].tolist() == poses[1].reshape(3, 4).tolist()
