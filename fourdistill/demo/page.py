"""The page: its components and the events that connect them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from fourdistill.demo.artist import Stopped
from fourdistill.demo.controls import (
    Controls,
    lay_out_dial,
    lay_out_more,
    lay_out_prompt,
    lay_out_time,
    read_command,
)
from fourdistill.demo.film import FilmInputs, lay_out_film, lay_out_path, read_film
from fourdistill.demo.handlers import Handlers
from fourdistill.demo.show import EMPTY
from fourdistill.models.settings import Sampling

PROGRESS = gr.Progress()  # a default that Gradio replaces for each request
KEPT_S = 600  # lifetime of an uploaded file: it is needed until the browser has shown it
AT_ONCE = 8  # drawings that have begun; one draws, and the others wait for it: a new one can thus stop its elder
OPENS_WITH = "walk"  # of the examples: the motion that it draws best
HEAD = "<h1>fourdistill</h1><p>The same subject at another instant, from another camera.</p>"


@dataclass(frozen=True)
class Stage:
    """The canvas, what decides what it shows, and the buttons beside it."""

    canvas: gr.HTML
    condition: gr.State
    controls: Controls
    film: FilmInputs
    make_film: gr.Button
    stop: gr.Button


def build_page(handlers: Handlers, own: Sampling, num_inference_steps: int) -> gr.Blocks:
    """The page with its events; it opens with the first example, if there is one. `own` is the adapter's sampling."""
    with gr.Blocks(title="fourdistill", analytics_enabled=False, delete_cache=(60, KEPT_S)) as page:
        gr.HTML(HEAD, elem_classes="head")
        with gr.Column(elem_classes="places"):
            with gr.Column(elem_classes="source"):
                picture = make_picture()
                with gr.Row(elem_classes="examples"):
                    examples = [make_example(path) for path in handlers.examples]
            stage = lay_out_stage(own, num_inference_steps)
        connect_picture(page, handlers, stage.condition, picture, examples)
        connect_canvas(handlers, stage)
        page.unload(handlers.stop)
    return page


def make_picture() -> gr.Image:
    """The field of the condition picture."""
    picture = gr.Image(
        type="filepath", sources=["upload", "clipboard"], label="Condition picture", height=240, buttons=[],
        alt_text="the condition picture", elem_classes="condition",
    )  # fmt: skip
    picture.preprocess = uploaded_path  # a subclass would make Gradio write a .pyi beside this module
    return picture


def make_example(path: Path) -> gr.Button:
    """A button that shows an example; unlike an upload, its picture is kept as long as the server runs."""
    button = gr.Button(path.stem, icon=path, min_width=60)
    button.keep_in_cache.add(button.icon["path"])  # type: ignore[index] # set by `icon`
    return button


def uploaded_path(payload: Any) -> str | None:
    """The field's payload => the file's path. Gradio checks that it is an upload; only `read_picture` opens it."""
    return None if payload is None else payload.path


def lay_out_stage(own: Sampling, num_inference_steps: int) -> Stage:
    """The canvas with what is under it, the prompt, and what is folded."""
    with gr.Column(elem_classes="work"):
        script = Path(__file__).with_name("canvas.js").read_text("utf-8")
        canvas = gr.HTML(EMPTY, js_on_load=script, elem_classes="canvas")
        with gr.Row(elem_classes="moves"):
            dial = lay_out_dial()
            with gr.Column(min_width=280):
                time, path = lay_out_time(), lay_out_path()
                with gr.Row():
                    make_film = gr.Button("Make the film", variant="primary", min_width=120)
                    stop = gr.Button("Stop", min_width=80)
        with gr.Accordion("Range and frames of the film", open=False), gr.Row():
            film = lay_out_film(path)
    with gr.Column(elem_classes="words"):
        prompt = lay_out_prompt()
        with gr.Accordion("Elevation, radius, steps, seed", open=False):
            more = lay_out_more(own, num_inference_steps)
    return Stage(canvas, gr.State(None), Controls(**dial, **time, **prompt, **more), film, make_film, stop)


def connect_picture(
    page: gr.Blocks, handlers: Handlers, condition: gr.State, picture: gr.Image, examples: Sequence[gr.Button]
) -> None:
    """Encode a new condition picture."""
    nothing: dict[str, Any] = {"fn": lambda: (None, None), "outputs": [picture, condition], "api_visibility": "private"}
    uploaded = picture.upload(handlers.upload, picture, condition, api_visibility="private")
    uploaded.failure(**nothing)  # a file that cannot be read is removed from the field
    picture.clear(**nothing)
    picks = [(example.click, number) for number, example in enumerate(examples)]
    opens_with = next((number for number, path in enumerate(handlers.examples) if path.stem == OPENS_WITH), 0)
    for event, number in [*picks, *([(page.load, opens_with)] if examples else [])]:
        event(partial(handlers.example, number), None, [picture, condition], api_visibility="private")


def connect_canvas(handlers: Handlers, stage: Stage) -> None:
    """Draw a preview at each change, refine it at a pause, make films, and stop all of them."""
    changes = [stage.condition.change, *stage.controls.changes]
    preview, refine, film = (drawing(stage, draw) for draw in (handlers.preview, handlers.refine, handlers.film))
    # During a preview, only the latest of further changes is queued.
    previewed = gr.on(changes, **preview, trigger_mode="always_last", show_progress="hidden")
    refined = previewed.success(**refine, trigger_mode="multiple", show_progress="hidden")
    filmed = stage.make_film.click(**film, cancels=[previewed, refined])
    stage.stop.click(handlers.stop, cancels=[previewed, refined, filmed], queue=False, api_visibility="private")


def drawing(stage: Stage, draw: Callable[..., Any]) -> dict[str, Any]:
    """A handler as an event's function, inputs and outputs; the canvas stays as it is if the drawing is stopped."""
    controls, film = stage.controls, stage.film

    def drawn(given: Mapping[Any, Any], request: gr.Request, progress: gr.Progress = PROGRESS) -> Any:
        command = read_command(controls, given)
        try:
            return draw(given[stage.condition], command, read_film(film, command, given), request, progress)
        except Stopped:
            return gr.skip()

    return {
        "fn": drawn,
        "inputs": {stage.condition, *controls.all, *film.all},
        "outputs": stage.canvas,
        "concurrency_id": "draw",
        "concurrency_limit": AT_ONCE,
        "api_visibility": "private",
    }
