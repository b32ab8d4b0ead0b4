"""Pictures embedded in the page as data URLs: no file is written, and they disappear when the page is closed."""

import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO

from diffusers.utils import make_image_grid
from PIL import Image

from fourdistill.animation import save_gif
from fourdistill.media import write_video

FRAME_RATE = 8  # of films, frames per second; `canvas.js` plays them as fast
EMPTY = '<div class="stage"><p>Drop a picture here, or pick an example.</p></div>'
Named = tuple[str, Image.Image]
"""A picture and its description."""


def show_picture(image: Image.Image, words: str, remark: str = "") -> str:
    """One picture with its description and a link that saves it, as HTML; `remark` says that it is a preview."""
    files = {} if remark else {"picture.png": data_url("image/png", png_bytes(image))}
    noted = f' <em class="remark">{escape(remark)}</em>' if remark else ""
    return f'<figure class="drawn">{_stage((words, image))}{_caption(escape(words) + noted, files)}</figure>'


def show_film(rows: Sequence[Sequence[Named]], words: str, name: str) -> str:
    """A film of rows of frames, the frames to pick from, and links that save it, as HTML; `name` names the files."""
    images = [image for row in rows for _, image in row]
    files = {
        f"{name}.gif": data_url("image/gif", gif_bytes(images)),
        f"{name}.mp4": data_url("video/mp4", mp4_bytes(images)),
        f"{name}.png": data_url("image/png", png_bytes(make_image_grid(images, rows=len(rows), cols=len(rows[0])))),
    }
    play = '<button type="button" class="play">Play</button>'
    strip = "".join(f'<div class="row">{"".join(map(_frame, row))}</div>' for row in rows)
    caption = _caption(escape(words), files, play)
    return f'<figure class="drawn">{_stage(rows[0][0])}<div class="strip">{strip}</div>{caption}</figure>'


def _stage(shown: Named) -> str:
    return f'<div class="stage">{_image(*shown)}</div>'


def _frame(frame: Named) -> str:
    return f'<button type="button" title="{escape(frame[0])}">{_image(*frame)}</button>'


def _image(words: str, image: Image.Image) -> str:
    return f'<img src="{data_url("image/png", png_bytes(image))}" alt="{escape(words)}">'


def _caption(words: str, files: dict[str, str], play: str = "") -> str:
    links = " ".join(
        f'<a class="save" href="{url}" download="{escape(name)}">Save {name.rsplit(".", 1)[1].upper()}</a>'
        for name, url in files.items()
    )
    return f"<figcaption>{play}<span>{words}</span>{links}</figcaption>"


def data_url(kind: str, content: bytes) -> str:
    """Bytes of a MIME type => a data URL."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def png_bytes(image: Image.Image) -> bytes:
    """A picture as PNG."""
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def gif_bytes(images: Sequence[Image.Image]) -> bytes:
    """Pictures of one size as a looping animation."""
    buffer = BytesIO()
    save_gif(buffer, images, FRAME_RATE)
    return buffer.getvalue()


def mp4_bytes(images: Sequence[Image.Image]) -> bytes:
    """Pictures of one size as a video."""
    buffer = BytesIO()
    write_video(buffer, images, FRAME_RATE)
    return buffer.getvalue()
