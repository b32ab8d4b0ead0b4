from dataclasses import replace

import numpy as np
import pytest
import torch
from ball_scene import RADIUS, SIZE, TIMES, K, ball_center, ball_scene, camera_pose
from stage_settings import settings_of

from fourdistill.errors import InputError
from fourdistill.teacher.backdrop import fit_backdrop
from fourdistill.teacher.batches import backgrounds_and_masks
from fourdistill.teacher.fit import fit_reconstruction
from fourdistill.teacher.gate import HeldOutScore, confidence, judge, score_camera, score_nearest
from fourdistill.teacher.hull import carve_hull
from fourdistill.teacher.reconstruction import load_reconstruction

HELD_OUT = "cam2"
SETTINGS = settings_of("reconstruct")
SHORT = replace(SETTINGS.fit, passes=6, checkpoint_passes=2)


@pytest.fixture(scope="module")
def fitted(scene, floor):
    return fit_reconstruction(scene.without([HELD_OUT]), replace(SETTINGS.fit, passes=60), 0, floor=floor, quiet=True)


@pytest.fixture(scope="module")
def short(scene, floor):
    return fit_reconstruction(scene.without([HELD_OUT]), SHORT, 0, floor=floor, quiet=True)


def test_the_floor_is_where_the_shadows_meet(scene, floor):
    backdrop = fit_backdrop(scene)
    assert backdrop.height == pytest.approx(floor, abs=0.03)


def test_what_stays_in_place_is_not_painted_on_the_floor(floor):
    scene = ball_scene(np.zeros(len(TIMES)))
    backdrop = fit_backdrop(scene, floor)
    for camera in range(len(scene.cameras)):
        view = backdrop.view(scene.K[camera, 0], scene.c2w[camera, 0], 0.0, scene.size)
        assert np.abs(view[..., 0] - view[..., 2]).max() < 0.1  # the ball is red, and hides a part of the floor


def test_the_hull_contains_the_ball(scene, floor):
    _, masks = backgrounds_and_masks(scene, backdrop := fit_backdrop(scene, floor))
    hull = carve_hull(scene, masks, backdrop.height)
    points = hull.lattice.points()
    for instant, time in enumerate(TIMES):
        center = (ball_center(time) - scene.frame.center) @ scene.frame.axes.T / scene.frame.scale
        away = np.linalg.norm(points - center, axis=1) * scene.frame.scale
        occupied = hull.occupied[instant].reshape(-1)
        assert occupied[away < 0.8 * RADIUS].mean() > 0.99
        assert not occupied[away > 2.5 * RADIUS].any()


def test_a_held_out_camera_is_shown_better_than_by_the_nearest(scene, fitted):
    shown = score_camera(fitted, fitted.backdrop, scene, HELD_OUT)
    nearest = score_nearest(fitted.backdrop, scene, HELD_OUT)
    assert shown.box > nearest.box + 6 and shown.picture > nearest.picture + 6, (shown, nearest)
    assert judge(shown, nearest, SETTINGS.gate).may_teach, (shown, nearest)


def test_depth_and_alpha_are_of_the_ball(fitted):
    pose = camera_pose(2 * np.pi / 3)
    center = ball_center(TIMES[1]) - pose[:3, 3]
    column, row, _ = K @ (pose[:3, :3].T @ center) / (center @ pose[:3, 2])
    seen = fitted.render(pose, K, TIMES[1])
    assert seen.alpha[int(row), int(column)] > 0.8
    assert seen.depth[int(row), int(column)] == pytest.approx(center @ pose[:3, 2] - RADIUS, abs=RADIUS)
    assert seen.alpha[0, 0] == 0 and np.isinf(seen.depth[0, 0])


def test_between_two_instants_it_renders_too(fitted):
    image = fitted.render(camera_pose(1.0), K, (TIMES[1] + TIMES[2]) / 2).image
    assert image.shape == (SIZE, SIZE, 3) and np.isfinite(image).all()


def test_someone_may_be_absent_at_some_instants(floor):
    scene = ball_scene(np.array([0, 1000, 0.66, 1]))  # at the second, far outside the pictures
    teacher = fit_reconstruction(scene, replace(SETTINGS.fit, passes=10), 0, floor=floor, quiet=True)
    there, gone = (teacher.render(camera_pose(0.3), K, time) for time in TIMES[:2])
    assert there.alpha.max() > 0.8 and not gone.alpha.any()
    assert np.isfinite(there.image).all() and np.isfinite(gone.image).all()


def test_resumed_it_gives_the_same(scene, floor, short, tmp_path):
    train, checkpoint = scene.without([HELD_OUT]), tmp_path / "fit.safetensors"
    fit_reconstruction(train, SHORT, 0, floor=floor, checkpoint=checkpoint, stop_after=3, quiet=True)
    resumed = fit_reconstruction(train, SHORT, 0, floor=floor, checkpoint=checkpoint, quiet=True)
    for name, value in short.planes.state_dict().items():
        assert torch.equal(value, resumed.planes.state_dict()[name]), name


def test_a_checkpoint_of_another_fit_is_refused(scene, floor, tmp_path):
    train, checkpoint = scene.without([HELD_OUT]), tmp_path / "fit.safetensors"
    fit_reconstruction(train, SHORT, 0, floor=floor, checkpoint=checkpoint, stop_after=1, quiet=True)
    with pytest.raises(InputError, match="checkpoint of this fit"):
        fit_reconstruction(train, SHORT, 1, floor=floor, checkpoint=checkpoint, quiet=True)


def test_saved_and_loaded_it_renders_the_same(short, tmp_path):
    short.save(tmp_path / "teacher.safetensors")
    loaded = load_reconstruction(tmp_path / "teacher.safetensors")
    for name in ("image", "alpha", "depth"):
        before, after = (getattr(it.render(camera_pose(0.3), K, 0.4), name) for it in (short, loaded))
        np.testing.assert_array_equal(before, after)


def test_what_is_no_teacher_is_one_line(tmp_path):
    (tmp_path / "teacher.safetensors").write_bytes(b"no teacher")
    with pytest.raises(InputError, match=r"teacher\.safetensors"):
        load_reconstruction(tmp_path / "teacher.safetensors")


def test_the_gate_says_why():
    nearest, gate = HeldOutScore(16, 12), SETTINGS.gate
    assert "below 20.0" in judge(HeldOutScore(25, 18), nearest, gate).reason
    assert "above the nearest" in judge(HeldOutScore(25, 21), HeldOutScore(22, 20), gate).reason
    assert judge(HeldOutScore(28, 23), nearest, gate).may_teach
    assert not judge(HeldOutScore(28, float("nan")), nearest, gate).may_teach  # no figure in that camera


def test_confidence_is_a_half_at_the_bound_and_grows_with_the_score():
    gate = SETTINGS.gate
    trust = [confidence(HeldOutScore(30, box), gate) for box in (gate.least_box, 24.0, 60.0)]
    assert trust[0] == 0.5 and trust[0] < trust[1] < trust[2] < 1
