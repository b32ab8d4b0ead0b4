"""Event handlers of the page: they take values and return the content of components."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from PIL import Image

from fourdistill.demo.artist import Artist, Command
from fourdistill.demo.captions import describe
from fourdistill.demo.film import Film
from fourdistill.demo.jobs import Jobs
from fourdistill.demo.show import EMPTY, show_film, show_picture
from fourdistill.errors import InputError
from fourdistill.media import read_picture

Condition = torch.Tensor | None
"""Embeddings (1, S, D) of the condition picture; nothing else of it is kept."""
PREVIEW_STEPS = 4  # the mini base hardly changes beyond; a third of the time of 20
PAUSE_S = 0.4  # without a move, before a preview is refined


class Handlers:
    """The page's handlers, for all sessions; `call` is what Gradio passes of a request: (gr.Request, gr.Progress).

    What draws takes the same arguments, needed or not, and raises `Stopped`.
    """

    def __init__(self, artist: Artist, examples: Sequence[Path]):
        self.artist = artist
        self.examples = examples
        self.jobs = Jobs()

    def upload(self, path: str | Path) -> torch.Tensor:
        """A picture file => the condition."""
        path = Path(path)
        with _said_on_the_page(hidden=f"{path.parent}/"):  # hide the server's folder from users
            return self.artist.look_at(read_picture(path))

    def example(self, index: int) -> tuple[str, torch.Tensor]:
        """An index into the examples => the path that the picture field shows, and the condition."""
        return str(self.examples[index]), self.upload(self.examples[index])

    def stop(self, request: gr.Request) -> None:
        """Stop what the session is drawing."""
        self.jobs.stop(request.session_hash or "")

    def preview(self, seen: Condition, command: Command, film: Film, *call: Any) -> str:
        """One picture at few steps; it is the whole drawing if no more are commanded."""
        if seen is None:
            return EMPTY
        steps = min(PREVIEW_STEPS, command.num_inference_steps)
        [image] = self._paint(seen, replace(command, num_inference_steps=steps), *call)
        remark = f"preview, {steps} of {command.num_inference_steps} steps"
        return show_picture(image, describe(command), remark if steps < command.num_inference_steps else "")

    def refine(self, seen: Condition, command: Command, film: Film, *call: Any) -> Any:
        """The same picture at all steps, after a pause; nothing if the preview was at all steps."""
        if seen is None or command.num_inference_steps <= PREVIEW_STEPS:
            return gr.skip()
        [image] = self._paint(seen, command, *call, refines=True)
        return show_picture(image, describe(command))

    def film(self, seen: Condition, command: Command, film: Film, *call: Any) -> str:
        """All frames of a film, played on the canvas, with a strip of them."""
        images = self._paint(seen, command, *call, frames=film.frames)
        commands = [replace(command, time=time, azimuth=_wrapped(azimuth)) for time, azimuth in film.frames]
        named = [(describe(each), image) for each, image in zip(commands, images, strict=True)]
        rows = [named[start : start + film.num_columns] for start in range(0, len(named), film.num_columns)]
        return show_film(rows, f"{film.name}, {len(named)} frames", film.name.lower().replace(" ", "-"))

    def _paint(
        self,
        seen: Condition,
        command: Command,
        request: gr.Request,
        progress: gr.Progress,
        *,
        frames: Sequence[tuple[float | None, float | None]] | None = None,
        refines: bool = False,
    ) -> list[Image.Image]:
        """Pictures of a command at the times and azimuths in `frames`; the page shows the progress."""

        def show_steps(done: int, total: int) -> None:
            progress((done, total), desc="Drawing", unit="steps")

        with _said_on_the_page(), self.jobs.running(request.session_hash or "", refines=refines) as stop:
            if seen is None:
                raise InputError("picture: expected one; upload it or pick an example")
            if refines:
                stop.wait(PAUSE_S)
            return self.artist.draw(seen, command, show_steps, stop, frames=frames)


@contextmanager
def _said_on_the_page(hidden: str = "") -> Iterator[None]:
    """Turn `InputError` into a message on the page, without a traceback."""
    try:
        yield
    except InputError as error:
        raise gr.Error(
            escape(str(error).replace(hidden, "")), title="That did not work", print_exception=False
        ) from error


def _wrapped(azimuth: float | None) -> float | None:
    """An azimuth in [-180, 180), for words."""
    return None if azimuth is None else (azimuth + 180) % 360 - 180
