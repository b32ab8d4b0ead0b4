"""Pictures that strangers send: which files are opened at all, and how large they may be."""

import warnings
from pathlib import Path

from PIL import Image, ImageOps

from fourdistill.errors import InputError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # Pillow knows more, some by starting other programs
MAX_PIXELS = 64_000_000
MAX_BYTES = 20_000_000


def read_upload(path: Path) -> Image.Image:
    """A picture file => RGB, upright, laid on white where it is transparent.

    Raises `InputError` where the file is no picture of `FORMATS`, is damaged, or has more than `MAX_PIXELS`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the bound is ours, below
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise InputError(
                        f"picture: expected at most {MAX_PIXELS / 1e6:.0f} megapixels, "
                        f"found {image.width} x {image.height}"
                    )
                upright = ImageOps.exif_transpose(image).convert("RGBA")
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:  # by kind of damage
        raise InputError(f"picture: expected a whole {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file") from error
    return Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB")
