"""Convert one camera's image files to a folder of square JPEGs: upright, on a background, and undistorted."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image as PIL
from PIL import ImageOps

from fourdistill import pictures as picture_files
from fourdistill.geometry.poses import Array
from fourdistill.pictures import PictureError, read_header
from fourdistill.scene import Camera, Picture, Pictures
from fourdistill.video.jpegs import FramePlan, write_jpegs
from fourdistill.video.probe import VideoError
from fourdistill.video.square import Image, central_square, square_intrinsics, undistorter
from fourdistill.video.upright import upright_camera


@dataclass
class Squares:
    """Result of an extraction: pictures written, their K (3, 3) and c2w (4, 4) or None, and bad files with reasons."""

    kept: list[Picture] = field(default_factory=list)
    K: list[Array | None] = field(default_factory=list)
    c2w: list[Array | None] = field(default_factory=list)
    bad: list[tuple[Path, str]] = field(default_factory=list)


def extract_pictures(film: Pictures, pictures: list[Picture], folder: Path, plan: FramePlan) -> Squares:
    """Write the readable `pictures` of a film as 000000.jpg, ... into an existing folder.

    Raises `VideoError` if none is readable.
    """
    found = Squares()
    images = _images(film, pictures, plan.size, found)
    first = next(images, None)
    if first is None:
        raise VideoError(f"{found.bad[0][0].name}: {found.bad[0][1]}" if found.bad else "expected pictures, found none")
    write_jpegs(chain([first], images), folder, plan)
    return found


def _images(film: Pictures, pictures: list[Picture], size: int, found: Squares) -> Iterator[Image]:
    for picture in pictures:
        try:
            image, camera = read_upright(picture, film.background)
            square, K = _square(camera, image, size)
        except VideoError as error:
            found.bad.append((picture.path, str(error)))
            continue
        found.kept.append(picture)
        found.K.append(K)
        found.c2w.append(None if camera is None else camera.c2w)
        yield square


def read_picture(path: Path, background: str) -> PIL.Image:
    """An image file as RGB, upright, on a background; raises `VideoError` if it is incomplete."""
    try:
        return picture_files.read_picture(path, background)
    except PictureError as error:
        raise VideoError(str(error)) from error


def read_upright(picture: Picture, background: str) -> tuple[PIL.Image, Camera | None]:
    """A picture turned upright, and its camera turned with it; raises like `read_picture`."""
    image, camera = read_picture(picture.path, background), picture.camera
    if camera is None:
        return image, None
    camera, mirrored = upright_camera(camera, read_header(picture.path))
    return ImageOps.mirror(image) if mirrored else image, camera


def camera_upright(picture: Picture) -> Camera | None:
    """The camera of a picture after turning it upright; unchanged if the file cannot be read."""
    if picture.camera is None:
        return None
    try:
        return upright_camera(picture.camera, read_header(picture.path))[0]
    except PictureError:
        return picture.camera


def _square(camera: Camera | None, image: PIL.Image, size: int) -> tuple[Image, Array | None]:
    """The square (size, size, 3) of one picture, and its K (3, 3) if the camera is known."""
    K = None if camera is None else square_intrinsics(camera, image.size, size)
    if camera is not None and camera.distortion is not None:
        scaled, undistort = undistorter(camera, image.size, size)
        return undistort(np.asarray(image.resize(scaled, PIL.Resampling.BICUBIC))), K
    left, top, side = central_square(image.size)
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), PIL.Resampling.BICUBIC, box)), K
