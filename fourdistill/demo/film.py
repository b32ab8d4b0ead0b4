"""Paths through time and around the subject: their inputs on the page, and the frames that they ask for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np

from fourdistill.demo.artist import Command

TIME, ORBIT, BOTH, GRID = "Time sweep", "Orbit", "Both at once", "Grid"
MAX_FRAMES, MAX_SIDE = 32, 8


@dataclass(frozen=True)
class Film:
    """What a path asks for: (time, azimuth in degrees) of every frame, row by row, None without a displacement."""

    name: str
    frames: list[tuple[float | None, float | None]]
    num_columns: int


@dataclass(frozen=True)
class FilmInputs:
    """The components that determine a path."""

    path: gr.Radio
    first: gr.Slider
    last: gr.Slider
    turn: gr.Slider
    count: gr.Slider
    columns: gr.Slider
    rows: gr.Slider

    @property
    def all(self) -> list[Any]:
        """All of them, in the order of the page."""
        return list(vars(self).values())

    def needed(self, path: str) -> list[bool]:
        """Which of them, but for the path itself, a path reads."""
        times, turns, grid = path != ORBIT, path != TIME, path == GRID
        return [times, times, turns, not grid, grid, grid]


def lay_out_path() -> gr.Radio:
    """The choice of a path."""
    return gr.Radio([TIME, ORBIT, BOTH, GRID], value=TIME, label="Film", elem_classes="paths")


def lay_out_film(path: gr.Radio) -> FilmInputs:
    """The inputs of the paths; those that the chosen one does not read are hidden."""
    inputs = FilmInputs(
        path=path,
        first=gr.Slider(-1, 1, -0.5, step=0.01, label="From time", min_width=200),
        last=gr.Slider(-1, 1, 0.5, step=0.01, label="To time", min_width=200),
        turn=gr.Slider(-360, 360, 360, step=1, label="Turn, degrees", info="from where the camera is", min_width=200),
        count=gr.Slider(2, MAX_FRAMES, 9, step=1, label="Frames", min_width=200),
        columns=gr.Slider(2, MAX_SIDE, 3, step=1, label="Instants", min_width=200),
        rows=gr.Slider(2, MAX_SIDE, 3, step=1, label="Cameras", min_width=200),
    )
    for part, needed in zip(inputs.all[1:], inputs.needed(TIME), strict=True):
        part.visible = needed
    path.change(
        lambda chosen: [gr.update(visible=needed) for needed in inputs.needed(chosen)], path, inputs.all[1:],
        queue=False, show_progress="hidden", api_visibility="private",
    )  # fmt: skip
    return inputs


def read_film(inputs: FilmInputs, command: Command, given: Mapping[Any, Any]) -> Film:
    """Values by component => the path. It turns from the commanded camera; what it does not move stays commanded."""
    path, first, last, turn, count, columns, rows = (given[part] for part in inputs.all)
    num_times, num_azimuths = (int(columns), int(rows)) if path == GRID else (int(count), int(count))
    start, closed = command.azimuth or 0.0, abs(turn) == 360  # closed: the loop would show the last frame twice
    times, azimuths = [command.time] * num_times, [command.azimuth] * num_azimuths
    if path != ORBIT:
        times = np.linspace(first, last, num_times).tolist()
    if path != TIME:
        azimuths = np.linspace(start, start + turn, num_azimuths, endpoint=not closed).tolist()
    if path == GRID:
        return Film(path, [(time, azimuth) for azimuth in azimuths for time in times], num_times)
    return Film(path, list(zip(times, azimuths, strict=True)), num_times)
