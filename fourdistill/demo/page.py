"""The page: its components and the events that connect them."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from fourdistill.demo.controls import Controls, lay_out_displacement, lay_out_prompt, lay_out_settings, read_command
from fourdistill.demo.handlers import Handlers
from fourdistill.demo.plot import draw_cameras
from fourdistill.demo.tabs import Tab, lay_out_tabs

PROGRESS = gr.Progress()  # a default that Gradio replaces for each request
KEPT_S = 600  # lifetime of an uploaded file: it is needed until the browser has shown it
HEAD = "<h1>fourdistill</h1><p>The same subject at another instant, from another camera.</p>"


def build_page(handlers: Handlers, num_inference_steps: int) -> gr.Blocks:
    """The page with its events; it opens with the first example, if there is one."""
    with gr.Blocks(title="fourdistill", analytics_enabled=False, delete_cache=(60, KEPT_S)) as page:
        gr.HTML(HEAD)
        condition = gr.State(None)
        with gr.Row(elem_classes="columns"):
            with gr.Column(scale=2, min_width=300):
                picture = gr.Image(
                    type="filepath", sources=["upload", "clipboard"], label="Condition picture", height=280, buttons=[],
                    alt_text="the condition picture", elem_classes="condition",
                )  # fmt: skip
                picture.preprocess = uploaded_path  # a subclass would make Gradio write a .pyi beside this module
                with gr.Row(elem_classes="examples"):
                    examples = [example_button(path) for path in handlers.examples]
                cameras = gr.HTML(draw_cameras(0, 0, 1), elem_classes="cameras")
            with gr.Column(scale=3, min_width=300):
                tabs = lay_out_tabs(handlers)
                with gr.Group(elem_classes="sliders"):
                    displacement, prompt = lay_out_displacement(), lay_out_prompt()
                    live = gr.Checkbox(True, label="Draw the picture whenever something is moved")
                with gr.Accordion("How it is drawn", open=False, elem_classes="sliders"):
                    settings = lay_out_settings(num_inference_steps)
        controls = Controls(**displacement, **prompt, **settings)
        drawing = connect_tabs(handlers, condition, controls, tabs, live)
        connect_picture(page, handlers, condition, picture, examples, drawing)
        connect_cameras(controls, cameras)
    return page


def example_button(path: Path) -> gr.Button:
    """A button that shows an example; unlike an upload, its picture is kept as long as the server runs."""
    button = gr.Button(path.stem, icon=path, min_width=60)
    button.keep_in_cache.add(button.icon["path"])  # type: ignore[index] # set by `icon`
    return button


def uploaded_path(payload: Any) -> str | None:
    """The field's payload => the file's path. Gradio checks that it is an upload; only `read_picture` opens it."""
    return None if payload is None else payload.path


def connect_tabs(
    handlers: Handlers, condition: gr.State, controls: Controls, tabs: Sequence[Tab], live: gr.Checkbox
) -> dict[str, Any]:
    """Connect the buttons, and the sliders that redraw the first tab's picture; return the event that draws it."""
    for tab in tabs:
        event = drawing_event(handlers, condition, controls, tab)
        stoppable: list[Any] = [tab.button.click(**event)]
        if tab is tabs[0]:
            stoppable += [controls.prompt.submit(**event), redraw_on_moves(event, controls, live)]
        tab.stop.click(handlers.stop, cancels=stoppable, queue=False, api_visibility="private")
    return drawing_event(handlers, condition, controls, tabs[0])


def redraw_on_moves(event: dict[str, Any], controls: Controls, live: gr.Checkbox) -> Any:
    """Draw whenever a control is moved; during a drawing, only the latest of further moves is queued."""
    draw = event["fn"]

    def draw_if_live(given: Mapping[Any, Any], request: gr.Request, progress: gr.Progress = PROGRESS) -> Any:
        return draw(given, request, progress) if given[live] else gr.skip()

    moves = [control.input for control in controls.all if control is not controls.prompt]
    changed = {"fn": draw_if_live, "inputs": {*event["inputs"], live}, "show_progress": "minimal"}
    return gr.on(moves, **{**event, **changed}, trigger_mode="always_last")


def drawing_event(handlers: Handlers, condition: gr.State, controls: Controls, tab: Tab) -> dict[str, Any]:
    """Function, inputs and outputs of a tab's drawing, as arguments of an event; all drawings share one queue."""

    def draw(given: Mapping[Any, Any], request: gr.Request, progress: gr.Progress = PROGRESS) -> str:
        asked = [given[part] for part in tab.inputs]
        return tab.draw(given[condition], read_command(controls, given), asked, request, progress)

    return {
        "fn": draw,
        "inputs": {condition, *controls.all, *tab.inputs},
        "outputs": tab.result,
        "concurrency_id": "draw",
        "concurrency_limit": 1,
        "api_visibility": "private",
    }


def connect_picture(
    page: gr.Blocks, handlers: Handlers, condition: gr.State, picture: gr.Image, examples: Sequence[gr.Button],
    drawing: dict[str, Any],
) -> None:  # fmt: skip
    """Encode a new condition picture and draw from it immediately; stop drawing when the page is left."""
    nothing: dict[str, Any] = {"fn": lambda: (None, None), "outputs": [picture, condition], "api_visibility": "private"}
    uploaded = picture.upload(handlers.upload, picture, condition, api_visibility="private")
    uploaded.success(**drawing)
    uploaded.failure(**nothing)  # a file that cannot be read is removed from the field
    picture.clear(**nothing)
    picks = [(example.click, number) for number, example in enumerate(examples)]
    for event, number in [*picks, *([(page.load, 0)] if examples else [])]:
        shown = event(partial(handlers.example, number), None, [picture, condition], api_visibility="private")
        shown.success(**drawing)
    page.unload(handlers.stop)


def connect_cameras(controls: Controls, cameras: gr.HTML) -> None:
    """Update the drawing of the cameras with the sliders, without a queue."""
    parts = [controls.azimuth, controls.elevation, controls.radius, controls.steer]

    def draw(azimuth: float, elevation: float, radius: float, steer: list[str]) -> str:
        return draw_cameras(azimuth, elevation, radius) if "camera" in steer else draw_cameras(None, None, None)

    gr.on(
        [part.input for part in parts], draw, parts, cameras, queue=False, show_progress="hidden",
        trigger_mode="always_last", api_visibility="private",
    )  # fmt: skip
