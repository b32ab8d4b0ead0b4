"""The only reader of image files: upright RGB, 8 bits per channel, transparent pixels on a background colour.

EXIF orientation, 16-bit values, palettes, transparency and colour profiles are respected. Of a file with several images
(an animation, a phone's MPO), the first is used.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, TiffImagePlugin, UnidentifiedImageError

# Pillow's other formats are not photographs, or run other programs. Pillow 11.3 added AVIF.
FORMATS = (*["AVIF"] * (find_spec("PIL._avif") is not None), "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
MAX_PIXELS = 64_000_000  # a header may claim any size
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"hevc": "HEIC", b"mif1": "HEIC"}
_BITS_PER_SAMPLE = 258  # TIFF's tag
_MODES = ("RGB", "L", "P", "1", "CMYK", "YCbCr", "RGBA", "LA", "PA", "RGBa", "La")  # 8 bits per channel
_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
_PROFILE_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # colour space of a profile => mode that it applies to


class PictureError(Exception):
    """An image cannot be used; `str(error)` gives the reason in one line, without the file name."""


@dataclass(frozen=True)
class Header:
    """The header of an image file, read without decoding pixels."""

    size: tuple[int, int]
    """(width, height) in pixels as stored."""
    orientation: int
    """EXIF orientation, 1 to 8: how to rotate or mirror the stored pixels."""

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) of the upright image."""
        return (self.size[1], self.size[0]) if self.orientation >= 5 else self.size


def read_header(path: Path) -> Header:
    """The header of an image file; raises `PictureError` if it is not one."""
    with _opened(path) as image:
        orientation = _orientation(image)
        if isinstance(image, TiffImagePlugin.TiffImageFile) and orientation >= 5:
            return Header((image.size[1], image.size[0]), orientation)  # Pillow's TIFF size is upright
        return Header(image.size, orientation)


def read_picture(path: Path, background: str = "white") -> Image.Image:
    """An image file => RGB, upright; `background` is a colour that Pillow knows.

    Raises `PictureError` if it is not an image, is incomplete, or has more than `MAX_PIXELS`.
    """
    with _opened(path) as image:
        if image.width * image.height > MAX_PIXELS:
            raise PictureError(f"expected at most {MAX_PIXELS // 10**6} megapixels, found {image.width}x{image.height}")
        image.load()
        upright = ImageOps.exif_transpose(_eight_bit(image))
        return _flat(upright, image.info.get("icc_profile"), background)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file; any problem with it becomes a `PictureError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pixels are limited above; incomplete files raise
            # Pass an open file: given a path, Pillow memory-maps TIFFs, and reads those to be rotated wrongly.
            with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
                yield image
    except UnidentifiedImageError as error:
        raise PictureError(
            f"expected a whole picture, {', '.join(FORMATS[:-1])} or {FORMATS[-1]}{_found(path)}"
        ) from error
    except FileNotFoundError as error:
        raise PictureError("expected a picture, there is no such file") from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:  # depends on the damage
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise PictureError(f"expected a whole picture: {' '.join(reason.split())}") from error


def _found(path: Path) -> str:
    """The format by the first bytes, among those that phones write and Pillow may not read."""
    with path.open("rb") as file:
        start = file.read(12)
    return f", found {_BRANDS[start[8:12]]}" if start[4:8] == b"ftyp" and start[8:12] in _BRANDS else ""


def _orientation(image: Image.Image) -> int:
    found = image.getexif().get(ExifTags.Base.Orientation, 1)
    return found if found in range(1, 9) else 1


def _eight_bit(image: Image.Image) -> Image.Image:
    """A loaded image with 8 bits per channel; Pillow has already reduced 16-bit colours to the higher byte."""
    if image.mode in _MODES:
        transparent = image.info.get("transparency")
        if isinstance(transparent, tuple) and max(transparent) > 255:  # given in 16 bits
            image.info["transparency"] = tuple(value >> 8 for value in transparent)
        return image
    if not image.mode.startswith("I;16") and not (image.mode == "I" and image.format == "PNG"):
        raise PictureError(f"expected 8 or 16 bits a channel, found mode {image.mode}")
    bits = image.tag_v2.get(_BITS_PER_SAMPLE, (16,)) if isinstance(image, TiffImagePlugin.TiffImageFile) else (16,)
    levels = np.asarray(image).astype(np.float64)
    gray = Image.fromarray(np.rint(levels * 255 / (2 ** bits[0] - 1)).clip(0, 255).astype(np.uint8))
    if (transparent := image.info.get("transparency")) is not None:
        gray.putalpha(Image.fromarray(np.where(levels == transparent, 0, 255).astype(np.uint8)))
    gray.getexif()[ExifTags.Base.Orientation] = _orientation(image)
    return gray


def _flat(image: Image.Image, profile: bytes | None, background: str) -> Image.Image:
    """RGB in sRGB, composited onto the background."""
    if image.mode not in _ALPHA and "transparency" not in image.info:
        return _in_srgb(image, profile)
    rgba = image.convert("RGBA")
    color = _in_srgb(rgba.convert("RGB"), profile)
    return Image.composite(color, Image.new("RGB", color.size, background), rgba.getchannel("A"))


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert to sRGB by the file's colour profile if it is usable, otherwise as Pillow does by default."""
    plain = image if image.mode == "RGB" else image.convert("RGB")
    if not profile:
        return plain
    try:
        opened = ImageCms.getOpenProfile(BytesIO(profile))
        mode = _PROFILE_MODES.get(opened.profile.xcolor_space)  # pyright: ignore[reportAttributeAccessIssue]
        if mode is None or mode not in ("RGB", image.mode) or "srgb" in ImageCms.getProfileDescription(opened).lower():
            return plain
        source = plain if mode == "RGB" else image
        return ImageCms.profileToProfile(source, opened, ImageCms.createProfile("sRGB"), outputMode="RGB") or plain
    except (ImageCms.PyCMSError, OSError):  # an unsuitable or damaged profile, which viewers ignore too
        return plain
