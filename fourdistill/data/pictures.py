"""One camera's image files to a folder of square JPEGs: transparency laid on a background, the lens undone."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image as PIL

from fourdistill.data.jpegs import FramePlan, write_jpegs
from fourdistill.data.probe import VideoError
from fourdistill.data.scene import PICTURE_FORMATS, Picture, Pictures
from fourdistill.data.square import Image, central_square, square_intrinsics, undistorter
from fourdistill.geometry.poses import Array

MAX_PIXELS = 64_000_000  # of an image file: a header may promise any size
_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
_EIGHT_BIT = ("RGB", "L", "P", "1", "CMYK", "YCbCr", *_ALPHA)


@dataclass
class Squares:
    """What became of pictures: those that were written, K (3, 3) of each or None, and what was wrong with others."""

    kept: list[Picture] = field(default_factory=list)
    K: list[Array | None] = field(default_factory=list)
    bad: list[tuple[Path, str]] = field(default_factory=list)


def extract_pictures(film: Pictures, pictures: list[Picture], folder: Path, plan: FramePlan) -> Squares:
    """Write 000000.jpg, ... of those `pictures` of a film that can be read into an existing folder.

    Raises `VideoError` where none can.
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
            image = read_picture(picture.path, film.background)
            square, K = _square(picture, image, size)
        except VideoError as error:
            found.bad.append((picture.path, str(error)))
            continue
        found.kept.append(picture)
        found.K.append(K)
        yield square


def read_picture(path: Path, background: str) -> PIL.Image:
    """An image file as RGB, laid on a background where it is transparent; raises `VideoError` where it is not whole."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the bound on pixels is ours, below; what is not whole raises
            with PIL.open(path, formats=PICTURE_FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise VideoError(
                        f"expected at most {MAX_PIXELS / 1e6:.0f} megapixels, found {image.width}x{image.height}"
                    )
                if image.mode not in _EIGHT_BIT:
                    raise VideoError(f"expected 8 bits a channel, found mode {image.mode}")
                if image.mode in _ALPHA or "transparency" in image.info:
                    rgba = image.convert("RGBA")
                    return PIL.alpha_composite(PIL.new("RGBA", rgba.size, background), rgba).convert("RGB")
                return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, PIL.DecompressionBombError) as error:  # by kind of damage
        raise VideoError(f"not a readable picture: {' '.join(str(error).split())}") from error


def _square(picture: Picture, image: PIL.Image, size: int) -> tuple[Image, Array | None]:
    """The square (size, size, 3) of one picture, and K (3, 3) of it where its camera is known."""
    camera = picture.camera
    K = None if camera is None else square_intrinsics(camera, image.size, size)
    if camera is not None and camera.distortion is not None:
        scaled, undistort = undistorter(camera, image.size, size)
        return undistort(np.asarray(image.resize(scaled, PIL.Resampling.BICUBIC))), K
    left, top, side = central_square(image.size)
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), PIL.Resampling.BICUBIC, box)), K
