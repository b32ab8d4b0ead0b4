"""Event handlers of the page: they take values and return the content of components."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image

from fourdistill.demo.artist import Artist, Command, Stopped
from fourdistill.demo.jobs import Jobs
from fourdistill.demo.plot import describe_camera
from fourdistill.demo.show import show_grid, show_picture, show_sequence
from fourdistill.errors import InputError
from fourdistill.media import read_picture

Condition = torch.Tensor | None
"""Embeddings (1, S, D) of the condition picture; nothing else of it is kept."""


class Handlers:
    """The page's handlers, for all sessions; `call` is what Gradio passes of a request: (gr.Request, gr.Progress)."""

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

    def draw(self, seen: Condition, command: Command, asked: list, *call: Any) -> str:
        """One picture; `asked` is empty."""
        [[image]] = self._paint(seen, command, *call)
        return show_picture(image, f"{_time(command.time)}, {_camera(command)}")

    def sweep_time(self, seen: Condition, command: Command, asked: list, *call: Any) -> str:
        """An animation over time from the commanded camera; `asked`: from, to, number of frames."""
        first, last, count = asked
        [row] = self._paint(seen, command, *call, times=_linspace(first, last, count))
        return show_sequence(row, f"{_time(first)} to {_time(last)}, {_camera(command)}", "time")

    def orbit(self, seen: Condition, command: Command, asked: list, *call: Any) -> str:
        """An animation of a camera that orbits from the commanded position; `asked`: degrees, number of frames."""
        turn, count = asked
        start = command.azimuth or 0.0
        # A full turn stops one step before its start, so that the loop does not show a frame twice.
        closed = abs(turn) == 360
        azimuths = _linspace(start, start + turn, count + closed)[: int(count)]
        rows = self._paint(seen, command, *call, azimuths=azimuths)
        return show_sequence([row[0] for row in rows], f"{_time(command.time)}, camera turning by {turn:.0f}°", "orbit")

    def grid(self, seen: Condition, command: Command, asked: list, *call: Any) -> str:
        """One row per azimuth, one column per time; `asked`: from, to, count of times, from, to, count of azimuths."""
        times, azimuths = _linspace(*asked[:3]), _linspace(*asked[3:])
        rows = self._paint(seen, command, *call, times=times, azimuths=azimuths)
        return show_grid(rows, [f"{azimuth:.0f}°" for azimuth in azimuths], [_time(time) for time in times])

    def _paint(
        self, seen: Condition, command: Command, request: gr.Request, progress: gr.Progress, **over: Any
    ) -> list[list[Image.Image]]:
        """Pictures of a command at the times and azimuths in `over`; the page shows the progress."""

        def show_steps(done: int, total: int) -> None:
            progress((done, total), desc="Drawing", unit="steps")

        with _said_on_the_page(), self.jobs.running(request.session_hash or "") as stop:
            if seen is None:
                raise InputError("picture: expected one; upload it or pick an example")
            return self.artist.draw(seen, command, show_steps, stop, **over)


@contextmanager
def _said_on_the_page(hidden: str = "") -> Iterator[None]:
    """Turn `InputError` and `Stopped` into a message on the page, without a traceback."""
    try:
        yield
    except InputError as error:
        raise gr.Error(
            escape(str(error).replace(hidden, "")), title="That did not work", print_exception=False
        ) from error
    except Stopped as error:
        raise gr.Error("Nothing was drawn.", title="Stopped", duration=3, print_exception=False) from error


def _linspace(first: float, last: float, count: float) -> list[float]:
    return np.linspace(first, last, int(count)).tolist()


def _time(time: float | None) -> str:
    if time is None:
        return "time as it is"
    return f"{abs(time):.2f} {'later' if time > 0 else 'earlier'}" if abs(time) >= 0.005 else "same instant"


def _camera(command: Command) -> str:
    return describe_camera(command.azimuth, command.elevation, command.radius)
