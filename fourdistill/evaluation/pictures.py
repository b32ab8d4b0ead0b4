"""Labelled pictures: contact sheets and animations."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from fourdistill.animation import save_gif
from fourdistill.data.files import new_file

MARGIN = 4  # pixels
TEXT_HEIGHT = 18
FRAME_RATE = 5  # of an animation
INK, PAPER = (40, 40, 40), (255, 255, 255)


def contact_sheet(
    rows: Sequence[Sequence[Image.Image]], columns: Sequence[str], labels: Sequence[str | Sequence[str]]
) -> Image.Image:
    """Rows of pictures of one size under column headings, a label (or one per picture) below each row."""
    width, height = rows[0][0].size
    cell = (width + MARGIN, height + TEXT_HEIGHT)
    sheet = Image.new("RGB", (MARGIN + len(columns) * cell[0], TEXT_HEIGHT + len(rows) * cell[1]), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=11)
    for j, heading in enumerate(columns):
        draw.text((MARGIN + j * cell[0], 3), heading, INK, font)
    for i, (row, label) in enumerate(zip(rows, labels, strict=True)):
        top = TEXT_HEIGHT + i * cell[1]
        for j, image in enumerate(row):
            sheet.paste(image.resize((width, height)), (MARGIN + j * cell[0], top))
        texts = [label] if isinstance(label, str) else label
        for j, text in enumerate(texts):
            draw.text((MARGIN + j * cell[0], top + height + 2), text, INK, font)
    return sheet


def save_png(path: Path, image: Image.Image) -> None:
    """Write a picture, whole or not at all."""
    with new_file(path) as partial:
        image.save(partial, format="PNG")


def save_there_and_back(path: Path, frames: Sequence[Image.Image]) -> None:
    """Write a GIF that runs there and back without end."""
    with new_file(path) as partial:
        save_gif(partial, [*frames, *frames[-2:0:-1]], FRAME_RATE)
