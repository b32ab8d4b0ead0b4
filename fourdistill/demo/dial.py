"""The camera dial: a top view of the subject, around which the camera is dragged or moved with the arrow keys."""

from pathlib import Path
from typing import Any

import gradio as gr

_HERE = Path(__file__).parent


def make_dial() -> gr.HTML:
    """A component whose value is the azimuth in whole degrees, in [-180, 180]; above 0 is to the right."""
    dial = gr.HTML(
        0,
        html_template=(_HERE / "dial.html").read_text("utf-8"),
        js_on_load=(_HERE / "dial.js").read_text("utf-8"),
        elem_classes="dial-box",
        min_width=180,
        scale=0,
    )
    # A subclass would make Gradio write a .pyi beside this module.
    dial.preprocess = read_azimuth  # type: ignore[method-assign]
    return dial


def read_azimuth(payload: Any) -> float:
    """The value that a browser sent => degrees; raises `gr.Error` if the dial cannot have sent it."""
    if not isinstance(payload, int | float) or not -180 <= payload <= 180:
        raise gr.Error("azimuth: expected -180 to 180 degrees", print_exception=False)
    return float(payload)
