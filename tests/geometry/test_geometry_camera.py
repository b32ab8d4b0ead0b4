import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tiny_scenes import ring_cameras

from fourdistill.geometry.camera import crop, intrinsics, letterbox, project, resize

K = intrinsics(100, 110, 60, 45)
POSE = ring_cameras(5)[2]
POINTS = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3))  # around the point that the ring looks at


def test_project_a_known_point():
    # 2 m ahead, 1 m to the right and 0.5 m below a camera at the origin.
    pixels, depth = project(K, np.eye(4), [[1.0, 0.5, 2.0]])
    np.testing.assert_allclose(pixels, [[60 + 100 * 0.5, 45 + 110 * 0.25]])
    assert depth == [2]


def test_points_behind_have_negative_depth():
    behind = POSE[:3, 3] - POSE[:3, 2]
    assert project(K, POSE, behind[None])[1] < 0


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 512), st.integers(1, 512))
def test_resize_scales_pixels(width, height, new_width, new_height):
    pixels, _ = project(K, POSE, POINTS)
    resized, _ = project(resize(K, (width, height), (new_width, new_height)), POSE, POINTS)
    np.testing.assert_allclose(resized, pixels * [new_width / width, new_height / height], rtol=1e-9)


@given(st.integers(-100, 100), st.integers(-100, 100))
def test_crop_shifts_pixels(left, top):
    pixels, _ = project(K, POSE, POINTS)
    np.testing.assert_allclose(project(crop(K, left, top), POSE, POINTS)[0], pixels - [left, top], atol=1e-9)


def test_the_pixel_rule_is_that_of_area_averaging():
    """Halving an image by 2x2 averaging moves the mean of pixel centres (0.5, 1.5) to centre 0.5: K is halved."""
    columns = np.arange(8) + 0.5  # pixel centres of 8 columns
    averaged = columns.reshape(4, 2).mean(1)  # old positions of the centres of the 4 new columns
    x = (averaged - K[0, 2]) / K[0, 0]  # the rays through them
    halved = resize(K, (8, 8), (4, 4))
    np.testing.assert_allclose(x * halved[0, 0] + halved[0, 2], np.arange(4) + 0.5)


def test_letterbox_pads_two_sides_equally():
    # The four-camera capture of data.md: calibrated at width 1088, saved at 1080 with 7 black rows above and below.
    fitted, padded = letterbox(intrinsics(1600, 1600, 544, 960), (1088, 1920), (1080, 1920))
    scale = 1080 / 1088
    np.testing.assert_allclose(fitted, intrinsics(1600 * scale, 1600 * scale, 540, 960))
    top = project(fitted, np.eye(4), [[0, -960 / 1600, 1]])[0][0, 1]  # the calibrated image's top edge
    np.testing.assert_allclose(top, (1920 - 1920 * scale) / 2)
    np.testing.assert_allclose(padded, 1 - scale)


@given(st.integers(2, 2000), st.integers(2, 2000))
def test_letterbox_to_the_same_shape_is_a_resize(width, height):
    fitted, padded = letterbox(K, (width, height), (width * 3, height * 3))
    np.testing.assert_allclose(fitted, resize(K, (width, height), (width * 3, height * 3)), atol=1e-9)
    assert abs(padded) < 1e-12
