"""The four tabs, one for each kind of drawing: their inputs besides the sliders, and their result."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from fourdistill.demo.handlers import Handlers

MAX_FRAMES = 32
EMPTY = '<p class="placeholder">Press Draw.</p>'
DrawTab = Callable[..., str]
"""(condition, command, the tab's own values, request, progress) => HTML"""


@dataclass(frozen=True)
class Tab:
    """A tab's components, and the function that draws its result."""

    result: gr.HTML
    button: gr.Button
    stop: gr.Button
    inputs: list[Any]
    draw: DrawTab


def lay_out_tabs(handlers: Handlers) -> list[Tab]:
    """All tabs; the first one is the live picture."""
    with gr.Tabs(elem_classes="tabs"):
        return [_picture(handlers), _time(handlers), _orbit(handlers), _grid(handlers)]


def _picture(handlers: Handlers) -> Tab:
    with gr.Tab("Picture"):
        return Tab(*_result_and_buttons(), [], handlers.draw)


def _time(handlers: Handlers) -> Tab:
    with gr.Tab("Time sweep"):
        parts = _result_and_buttons()
        with gr.Row():
            inputs = [*_times(0.5), _count("Frames", 9, MAX_FRAMES)]
    return Tab(*parts, inputs, handlers.sweep_time)


def _orbit(handlers: Handlers) -> Tab:
    with gr.Tab("Orbit"):
        parts = _result_and_buttons()
        with gr.Row():
            turn = gr.Slider(-360, 360, 360, step=1, label="Turn, degrees", min_width=200)
            inputs = [turn, _count("Frames", 8, MAX_FRAMES)]
    return Tab(*parts, inputs, handlers.orbit)


def _grid(handlers: Handlers) -> Tab:
    with gr.Tab("Grid"):
        parts = _result_and_buttons()
        with gr.Row():
            inputs = [*_times(0.3), _count("Columns", 3, 8)]
        with gr.Row():
            inputs += [
                gr.Slider(-180, 180, -90, step=1, label="From azimuth", min_width=140),
                gr.Slider(-180, 180, 90, step=1, label="To azimuth", min_width=140),
                _count("Rows", 3, 8),
            ]
    return Tab(*parts, inputs, handlers.grid)


def _result_and_buttons() -> tuple[gr.HTML, gr.Button, gr.Button]:
    result = gr.HTML(EMPTY, elem_classes="result")
    with gr.Row():
        button = gr.Button("Draw", variant="primary", min_width=120)
        stop = gr.Button("Stop", variant="secondary", min_width=120)
    return result, button, stop


def _times(reach: float) -> list[gr.Slider]:
    return [
        gr.Slider(-1, 1, -reach, step=0.01, label="From time", min_width=140),
        gr.Slider(-1, 1, reach, step=0.01, label="To time", min_width=140),
    ]


def _count(label: str, default: int, most: int) -> gr.Slider:
    return gr.Slider(2, most, default, step=1, label=label, min_width=140)
