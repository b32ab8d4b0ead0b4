"""Convert a film's image to a square: crop, resize, and undistort if the lens distortion is known."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fourdistill.geometry import camera as camera_geometry
from fourdistill.geometry.distortion import is_one_to_one, sample_bilinear, undistortion_map
from fourdistill.geometry.poses import Array
from fourdistill.scene import Camera
from fourdistill.video.probe import VideoError
from fourdistill.video.upright import MAX_PADDED

Size = tuple[int, int]  # (width, height) in pixels
Image = NDArray[np.uint8]  # (H, W, 3), RGB

SUPERSAMPLING = 2  # an undistorted pixel is the mean of 2x2 samples


def central_square(size: Size) -> tuple[int, int, int]:
    """Size of an image => (left, top, side) of its central square, all even for subsampled chroma.

    Raises `VideoError` if the image is too small.
    """
    width, height = size
    side = min(width, height) // 2 * 2
    if side == 0:
        raise VideoError(f"expected at least 2x2 pixels, found {width}x{height}")
    return (width - side) // 4 * 2, (height - side) // 4 * 2, side


def film_intrinsics(camera: Camera, size: Size) -> Array:
    """K (3, 3) of a film of `size`, which may be a resized or letterboxed copy of the calibrated one.

    Raises `VideoError` if it is no such copy.
    """
    K, padded = camera_geometry.letterbox(camera.K, camera.size, size)
    if padded > MAX_PADDED:
        raise VideoError(
            f"expected the calibrated shape {camera.size[0]}x{camera.size[1]}, found {size[0]}x{size[1]}: "
            "neither the same size nor a resized copy"
        )
    return K


def square_intrinsics(camera: Camera, film_size: Size, size: int) -> Array:
    """K (3, 3) of the central square of a film's image, resized to `size` pixels; raises like `film_intrinsics`."""
    left, top, side = central_square(film_size)
    K = camera_geometry.crop(film_intrinsics(camera, film_size), left, top)
    return camera_geometry.resize(K, (side, side), (size, size))


def undistorter(camera: Camera, film_size: Size, size: int) -> tuple[Size, Callable[[Image], Image]]:
    """The size to scale a film's images to, and a function from those to undistorted squares (size, size, 3).

    Images are scaled to about twice the output size, sampled bilinearly by the undistortion map, and averaged over
    2x2 samples. Raises `VideoError` if the distortion is not one-to-one within the square.
    """
    assert camera.distortion is not None
    fine = size * SUPERSAMPLING
    shrink = min(1.0, fine / min(film_size))
    scaled = (max(2, round(film_size[0] * shrink)), max(2, round(film_size[1] * shrink)))
    K_scaled = camera_geometry.resize(film_intrinsics(camera, film_size), film_size, scaled)
    K_fine = camera_geometry.resize(square_intrinsics(camera, film_size, size), (size, size), (fine, fine))
    lookup = undistortion_map(K_fine, (fine, fine), K_scaled, camera.distortion)  # (fine, fine, 2)
    if not is_one_to_one(lookup):
        raise VideoError(f"expected a lens whose distortion can be undone, found {camera.distortion}, which folds over")

    def undistort(image: Image) -> Image:
        samples = sample_bilinear(image, lookup).reshape(size, SUPERSAMPLING, size, SUPERSAMPLING, 3)
        return np.rint(samples.mean(axis=(1, 3))).astype(np.uint8)

    return scaled, undistort
