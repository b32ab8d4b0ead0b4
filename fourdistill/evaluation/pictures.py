"""Labelled pictures: contact sheets and animations."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from fourdistill.data.files import new_file

MARGIN = 4  # pixels
TEXT_HEIGHT = 18
FRAME_MS = 200  # of an animation
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


def save_gif(path: Path, frames: Sequence[Image.Image]) -> None:
    """Write an animation that runs there and back without end."""
    there_and_back = [*frames, *frames[-2:0:-1]]
    with new_file(path) as partial:
        there_and_back[0].save(
            partial, format="GIF", save_all=True, append_images=there_and_back[1:], duration=FRAME_MS, loop=0
        )
