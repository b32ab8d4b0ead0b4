"""Read images from users, and write PNG, GIF or MP4 as the file suffix says."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from PIL import Image

from fourdistill import pictures
from fourdistill.animation import check_rate, exact_rate, save_gif
from fourdistill.errors import InputError
from fourdistill.pictures import PictureError
from fourdistill.storage.files import check_writable, new_file

SUFFIXES = (".png", ".gif", ".mp4")


def read_picture(path: Path) -> Image.Image:
    """An image file => RGB, upright, on white where it is transparent.

    Raises `InputError` if it is not an image, is damaged, or is too large.
    """
    try:
        return pictures.read_picture(path)
    except PictureError as error:
        raise InputError(f"{path}: {error}") from error


def check_output(path: Path, frame_rate: float) -> None:
    """Raise `InputError` if images cannot be written to a path at this rate; to be called before generation."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}")
    check_writable(path, str(path))
    check_rate(frame_rate, path.suffix)


def write_pictures(path: Path, rows: Sequence[Sequence[Image.Image]], frame_rate: float) -> None:
    """Write rows of images of one size as a PNG grid, or row by row as an animation; atomic."""
    from diffusers.utils import make_image_grid  # not at the top: diffusers takes seconds to import

    check_output(path, frame_rate)
    images = [image for row in rows for image in row]
    kind = path.suffix.lower()
    with new_file(path) as partial:
        if kind == ".png":
            make_image_grid(images, rows=len(rows), cols=len(rows[0])).save(partial, format="PNG")
        elif kind == ".gif":
            save_gif(partial, images, frame_rate)
        else:
            write_video(partial, images, frame_rate)


def write_video(file: Path | BinaryIO, images: Sequence[Image.Image], frame_rate: float) -> None:
    """Images of one size => an H.264 video in MP4, cropped to even width and height, which players require."""
    width, height = (side - side % 2 for side in images[0].size)
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=exact_rate(frame_rate), options={"crf": "16"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for image in images:
            frame = av.VideoFrame.from_ndarray(np.asarray(image.crop((0, 0, width, height))), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
