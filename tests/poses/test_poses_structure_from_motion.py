import sys

import numpy as np
import pytest
from PIL import Image
from textured_room import SIZE, K, orbit, photograph

from fourdistill.errors import InputError
from fourdistill.evaluation.metrics.orbit_poses import pose_errors
from fourdistill.poses.structure_from_motion import reconstruct

POSES = orbit(6)


@pytest.fixture(scope="module")
def photographs():
    return [photograph(pose) for pose in POSES]


@pytest.mark.parametrize("known", [True, False])
def test_a_textured_room_gives_its_cameras(photographs, known):
    found = reconstruct(photographs, K if known else None)
    assert found.registered.all()
    assert pytest.approx(K, abs=0.0 if known else 3.0) == found.K[0]
    assert found.reprojection_error < 0.5
    errors = pose_errors(found.c2w, POSES)
    assert np.nanmax(errors.rotation_deg) < 0.1
    assert np.nanmax(errors.direction_deg) < 0.5
    assert np.nanmax(errors.translation) < 0.01


def test_the_same_pictures_give_the_same_bytes():
    photographs = [photograph(pose) for pose in orbit(9)]  # enough for threads to finish in any order
    first, second = (reconstruct(photographs) for _ in range(2))
    np.testing.assert_array_equal(first.c2w, second.c2w)
    np.testing.assert_array_equal(first.K, second.K)


def test_a_picture_of_something_else_has_no_pose(photographs):
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8)
    found = reconstruct([*photographs[:2], Image.fromarray(noise), *photographs[2:]], K)
    assert found.registered.tolist() == [True, True, False, True, True, True, True]


def test_without_texture_nothing_is_registered():
    found = reconstruct([Image.new("RGB", SIZE, (90, 90, 90))] * 4)
    assert not found.registered.any()
    assert np.isnan(found.K).all()
    assert np.isnan(found.reprojection_error)


def test_one_picture_has_no_motion():
    assert not reconstruct([Image.new("RGB", SIZE)]).registered.any()


def test_pictures_have_one_size():
    with pytest.raises(ValueError, match="one size"):
        reconstruct([Image.new("RGB", SIZE), Image.new("RGB", (32, 32))])


def test_without_pycolmap_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(InputError, match=r"fourdistill\[colmap\]"):
        reconstruct([Image.new("RGB", SIZE)] * 2)
