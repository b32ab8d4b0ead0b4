"""Frames as images, which an encoder turns into features."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from fourdistill.errors import InputError, one_line
from fourdistill.storage.store import Store

Encode = Callable[[list[Image.Image]], dict[str, np.ndarray]]
"""RGB images (B) => {"latents": (B, C, h, w), "image_embeds": (B, S, D), optionally more (B, S, D)}."""

LATENTS, IMAGE_EMBEDS = "latents", "image_embeds"
FRAME = "a frame of extract_frames"  # for error messages


def read_frame(frames: Store, name: str) -> Image.Image:
    """A frame as RGB; raises `InputError` with its name if it cannot be read."""
    try:
        with Image.open(io.BytesIO(frames.read(name, FRAME)), formats=["JPEG"]) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow
        reason = one_line(error)
        raise InputError(f"{frames.path(name)}: expected a readable picture: {reason}") from error
