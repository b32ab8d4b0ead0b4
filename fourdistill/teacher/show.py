"""Pictures of a teacher: beside the truth in a held-out camera, and films along the ring of cameras."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fourdistill.teacher.gate import to_source
from fourdistill.teacher.new_cameras import NewCamera, find_gaps
from fourdistill.teacher.scene_images import SceneImages
from fourdistill.teacher.teacher import Teacher

_TITLE = 14  # pixels
_NUM_ROWS = 4
_FILM = ("frozen time", "one camera", "both")
FILM_RATE = 12.5
"""Frames per second of a film; a GIF's delays are multiples of 10 ms."""


def to_picture(image: NDArray[np.float32]) -> Image.Image:
    """An image (H, W, 3) in [0, 1] with 8 bits per channel."""
    return Image.fromarray(np.rint(image * 255).clip(0, 255).astype(np.uint8))


def draw_sheet(teacher: Teacher, scene: SceneImages, camera: str) -> Image.Image:
    """Truth | teacher, in a held-out camera at instants spread over the scene."""
    index = scene.cameras.index(camera)
    rows = []
    for n in np.unique(np.linspace(0, len(scene.times) - 1, _NUM_ROWS).round().astype(int)):
        c2w, K = to_source(scene, scene.c2w[index, n]), scene.K[index, n]
        taught = to_picture(teacher.render(c2w, K, float(scene.times[n])).image)
        rows.append([to_picture(scene.images[index, n]), taught])
    return _titled(rows, ["truth", "teacher"])


def draw_film(teacher: Teacher, scene: SceneImages) -> list[Image.Image]:
    """As many pictures as instants: the camera flies through frozen time | one new camera | it flies in time."""
    path = _flight(scene, len(scene.times))
    middle, film = len(scene.times) // 2, []
    for n in range(len(scene.times)):
        shown = [(path[n], middle), (path[0], n), (path[n], n)]
        film.append(_titled([[_render(teacher, scene, *each) for each in shown]], _FILM))
    return film


def _flight(scene: SceneImages, num: int) -> list[NewCamera]:
    """`num` cameras along all gaps: around a ring, or there and back on an arc; it begins within a gap."""
    gaps = find_gaps(scene)
    places = (np.arange(num) / num + 0.5 / len(gaps)) % 1
    if len(gaps) < len(scene.cameras):
        places = 1 - np.abs(2 * places - 1)
    whole, share = np.divmod(places * len(gaps), 1)
    return [NewCamera(gaps[min(int(g), len(gaps) - 1)], float(s)) for g, s in zip(whole, share, strict=True)]


def _render(teacher: Teacher, scene: SceneImages, camera: NewCamera, n: int) -> Image.Image:
    c2w = to_source(scene, camera.c2w(scene)[n])
    return to_picture(teacher.render(c2w, camera.K(scene)[n], float(scene.times[n])).image)


def _titled(rows: Sequence[Sequence[Image.Image]], titles: Sequence[str]) -> Image.Image:
    """Pictures of one size in rows, with a title above each column."""
    width, height = rows[0][0].size
    sheet = Image.new("RGB", (width * len(titles), _TITLE + height * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((column * width + 2, 1), title, fill="black")
        for row, pictures in enumerate(rows):
            sheet.paste(pictures[column], (column * width, _TITLE + row * height))
    return sheet
