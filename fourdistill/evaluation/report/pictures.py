"""Labelled images: contact sheets and animations."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from fourdistill.animation import save_gif
from fourdistill.storage.files import new_file

MARGIN = 4  # pixels
TEXT_HEIGHT = 18
FRAME_RATE = 5  # frames a second, of an animation
INK, PAPER = (40, 40, 40), (255, 255, 255)


def contact_sheet(
    rows: Sequence[Sequence[Image.Image]], columns: Sequence[str], labels: Sequence[str | Sequence[str]]
) -> Image.Image:
    """Rows of images of one size under column headings, with a label (or one per image) below each row.

    Labels may have several lines.
    """
    width, height = rows[0][0].size
    texts = [[label] if isinstance(label, str) else list(label) for label in labels]
    num_lines = [max(text.count("\n") + 1 for text in of_row) for of_row in texts]
    bottom = TEXT_HEIGHT * (1 + sum(num_lines)) + len(rows) * height
    sheet = Image.new("RGB", (sheet_width(len(columns), width), bottom), PAPER)
    draw = ImageDraw.Draw(sheet)
    for j, heading in enumerate(columns):
        draw.text((_left(j, width), 3), heading, INK, _font())
    top = TEXT_HEIGHT
    for row, of_row, lines in zip(rows, texts, num_lines, strict=True):
        for j, image in enumerate(row):
            sheet.paste(image.resize((width, height)), (_left(j, width), top))
        top += height
        for j, text in enumerate(of_row):
            for k, line in enumerate(text.split("\n")):
                draw.text((_left(j, width), top + k * TEXT_HEIGHT + 2), line, INK, _font())
        top += lines * TEXT_HEIGHT
    return sheet


def sheet_width(num_columns: int, width: int) -> int:
    """Width in pixels of a sheet whose images have this width."""
    return _left(num_columns, width)


def wrap(text: str, width: int) -> str:
    """Wrap text into lines of at most `width` pixels; words are not split."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or _font().getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def _left(column: int, width: int) -> int:
    return MARGIN + column * (width + MARGIN)


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=11)


def save_png(path: Path, image: Image.Image) -> None:
    """Write an image atomically."""
    with new_file(path) as partial:
        image.save(partial, format="PNG")


def save_there_and_back(path: Path, frames: Sequence[Image.Image]) -> None:
    """Write a GIF that plays forwards and backwards in an endless loop."""
    with new_file(path) as partial:
        save_gif(partial, [*frames, *frames[-2:0:-1]], FRAME_RATE)
