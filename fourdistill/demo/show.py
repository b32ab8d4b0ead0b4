"""Pictures embedded in the page as data URLs: no file is written, and they disappear when the page is closed."""

import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO

from diffusers.utils import make_image_grid
from PIL import Image

from fourdistill.animation import save_gif

FRAME_RATE = 8  # of animations, frames per second


def show_picture(image: Image.Image, words: str) -> str:
    """One picture with its description and a link that saves it, as HTML."""
    url = data_url("image/png", png_bytes(image))
    caption = _caption(words, {"picture.png": url})
    return f'<figure class="drawn"><img src="{url}" alt="{escape(words)}">{caption}</figure>'


def show_sequence(images: Sequence[Image.Image], words: str, name: str) -> str:
    """An animation, its frames side by side, and links that save both, as HTML; `name` names the files."""
    gif = data_url("image/gif", gif_bytes(images))
    strip = data_url("image/png", png_bytes(make_image_grid(list(images), rows=1, cols=len(images))))
    links = {f"{name}.gif": gif, f"{name}.png": strip}
    return (
        f'<figure class="drawn"><img src="{gif}" alt="{escape(words)}, animated">'
        f'<div class="strip"><img src="{strip}" alt="{escape(words)}, {len(images)} frames side by side"></div>'
        f"{_caption(words, links)}</figure>"
    )


def show_grid(rows: Sequence[Sequence[Image.Image]], row_names: Sequence[str], column_names: Sequence[str]) -> str:
    """A grid of pictures with row and column names, and a link that saves it as one picture, as HTML."""
    whole = make_image_grid([image for row in rows for image in row], rows=len(rows), cols=len(rows[0]))
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in column_names)
    body = ""
    for name, row in zip(row_names, rows, strict=True):
        body += f'<tr><th scope="row">{escape(name)}</th>'
        for column, image in zip(column_names, row, strict=True):
            alt = escape(f"{name}, {column}")
            body += f'<td><img src="{data_url("image/png", png_bytes(image))}" alt="{alt}"></td>'
        body += "</tr>"
    links = _caption(
        "rows: azimuth of the camera; columns: time", {"grid.png": data_url("image/png", png_bytes(whole))}
    )
    return (
        f'<figure class="drawn"><div class="strip"><table><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{links}</figure>"
    )


def _caption(words: str, files: dict[str, str]) -> str:
    links = " ".join(
        f'<a class="save" href="{url}" download="{escape(name)}">Save {name.rsplit(".", 1)[1].upper()}</a>'
        for name, url in files.items()
    )
    return f"<figcaption><span>{escape(words)}</span>{links}</figcaption>"


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
