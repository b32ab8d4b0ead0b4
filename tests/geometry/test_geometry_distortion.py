import numpy as np

from fourdistill.geometry.camera import intrinsics, resize
from fourdistill.geometry.distortion import distort, sample_bilinear, undistortion_map

LENS = (-0.2, 0.05, 0.003, -0.002)


def test_distort_is_opencvs_model():
    # cv2.projectPoints((0.3, -0.2, 1), no motion, K = I, (-0.2, 0.05, 0.003, -0.002)) of OpenCV 4.13.0
    np.testing.assert_allclose(distort([[0.3, -0.2]], LENS), [[0.29147349999999994, -0.19409900000000002]], atol=1e-9)


def test_an_ideal_lens_looks_straight():
    K = intrinsics(30, 30, 16, 12)
    lookup = undistortion_map(K, (32, 24), K, (0, 0, 0, 0))
    columns, rows = np.meshgrid(np.arange(32) + 0.5, np.arange(24) + 0.5)
    np.testing.assert_allclose(lookup, np.stack([columns, rows], axis=-1), atol=1e-9)


def test_sampling_at_pixel_centres_returns_the_image():
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    columns, rows = np.meshgrid(np.arange(8) + 0.5, np.arange(6) + 0.5)
    np.testing.assert_array_equal(sample_bilinear(image, np.stack([columns, rows], axis=-1)), image)


def test_sampling_beyond_the_edge_repeats_it():
    image = np.arange(4, dtype=np.uint8).reshape(2, 2, 1)
    far = np.array([[[-5.0, -5.0], [9.0, 9.0]]])
    np.testing.assert_array_equal(sample_bilinear(image, far)[0, :, 0], [0, 3])


def test_undistortion_restores_the_scene():
    """A smooth pattern, seen through a lens and undistorted by the map, is the pattern seen without the lens."""

    def pattern(points):
        return 127 + 100 * np.sin(4 * points[..., 0]) * np.cos(3 * points[..., 1])

    # The distorted image: find the ideal ray of each pixel by fixed-point iteration.
    K_lens, size = intrinsics(120, 120, 80, 60), (160, 120)
    columns, rows = np.meshgrid(np.arange(160) + 0.5, np.arange(120) + 0.5)
    seen = np.stack([(columns - 80) / 120, (rows - 60) / 120], axis=-1)
    ideal = seen.copy()
    for _ in range(50):
        ideal += seen - distort(ideal, LENS)
    image = np.rint(pattern(ideal)).astype(np.uint8)[..., None]

    K_out = resize(K_lens, size, (80, 60))
    restored = sample_bilinear(image, undistortion_map(K_out, (80, 60), K_lens, LENS))[..., 0]
    columns, rows = np.meshgrid(np.arange(80) + 0.5, np.arange(60) + 0.5)
    expected = pattern(np.stack([(columns - 40) / 60, (rows - 30) / 60], axis=-1))
    error = np.abs(restored - expected)[3:-3, 3:-3]
    assert error.max() < 1.5  # rounding and bilinear sampling
    untouched = image.reshape(60, 2, 80, 2).mean(axis=(1, 3))
    assert np.abs(untouched - expected)[3:-3, 3:-3].max() > 10  # the distortion is significant
