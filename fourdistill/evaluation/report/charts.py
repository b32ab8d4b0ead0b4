"""Charts as SVG: the report page makes them interactive by a script, documents show them as pictures.

A chart is laid out here, in pixels, and written by `chart.svg.j2`. It is as wide as a phone. Its colours are those of
Okabe and Ito, which the colour-blind can tell apart, and every series also has a shape of its own (`chart.css`).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

WIDTH, RIGHT, BOTTOM = 360, 16, 40  # pixels, as are the next; the margins hold the ticks and the labels
LINE, LETTER = 16, 5.9  # height of a line of text, and mean width of a letter
HEADING = 22  # height of the title of a chart that is a file of its own
PADDING = 0.05  # share of an axis that stays empty at either end
HERE = Path(__file__).parent
Range = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Point:
    """A value at a place."""

    x: float
    y: float
    text: str
    """What a reader sees who points at it; lines are separated by newlines."""
    name: str = ""
    """Stands beside the point."""
    x_interval: Range | None = None
    y_interval: Range | None = None
    radius: float = 4
    """Pixels."""
    hollow: bool = False
    square: bool = False
    """Instead of the shape of its series."""
    leads_to: Range | None = None
    """A place that a line leads to, and ends in a cross."""


@dataclass(frozen=True)
class Series:
    """Points of one colour."""

    name: str
    """In the legend; empty: without an entry."""
    points: Sequence[Point]
    line: bool = False
    """Whether a line joins them, in their order."""
    shift: float = 0
    """Pixels to the right, so that series with points at the same places stand side by side."""


@dataclass(frozen=True)
class Axis:
    """One axis; without ticks (value => text), round values are chosen."""

    label: str
    """With its unit."""
    ticks: Mapping[float, str] = field(default_factory=dict)
    logarithmic: bool = False


@dataclass(frozen=True)
class Chart:
    """Series over two axes."""

    title: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    height: int = 240
    """Of the area of the points, in pixels."""
    diagonal: bool = False
    """Whether a line shows where both values are equal."""


@dataclass(frozen=True)
class Scale:
    """Values => pixels."""

    low: float
    high: float
    start: float
    stop: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value, in pixels."""
        low, high, value = (math.log(v) if self.logarithmic else v for v in (self.low, self.high, value))
        return round(self.start + (value - low) / (high - low) * (self.stop - self.start), 1)

    @classmethod
    def over(cls, values: Sequence[float], start: float, stop: float, *, logarithmic: bool = False) -> "Scale":
        """A scale with all values inside its ends, of which a padding stays empty."""
        low, high = min(values), max(values)
        if logarithmic:
            room = (high / low) ** PADDING
            return cls(low / room, high * room, start, stop, logarithmic)
        room = (high - low) * PADDING or 0.5
        return cls(low - room, high + room, start, stop)


def draw(chart: Chart, *, alone: bool = False) -> Markup:
    """The chart as SVG; `alone`: as a file of its own, with a heading, its style and a background."""
    return Markup(_environment().get_template("chart.svg.j2").render(**lay_out(chart), heading=HEADING if alone else 0))


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def lay_out(chart: Chart) -> dict:
    """Everything that the template needs, in pixels."""
    entries, top = _legend(chart.series)
    points = [point for series in chart.series for point in series.points]
    bottom, right = top + chart.height, WIDTH - RIGHT
    y = _scale(chart.y, [v for p in points for v in _values(p.y, p.y_interval, p.leads_to, 1)], bottom, top)
    y_ticks = [(y(value), text) for value, text in _ticks(chart.y, y)]
    left = round(31 + LETTER * max(len(text) for _, text in y_ticks))
    x = _scale(chart.x, [v for p in points for v in _values(p.x, p.x_interval, p.leads_to, 0)], left, right)
    ends = max(x.low, y.low), min(x.high, y.high)
    series = [_lay_out_series(each, x, y) | {"number": number} for number, each in enumerate(chart.series)]
    return {
        "title": chart.title,
        "width": WIDTH,
        "height": bottom + BOTTOM,
        "left": left,
        "top": top,
        "right": right,
        "bottom": bottom,
        "x_ticks": [(x(value), text) for value, text in _ticks(chart.x, x)],
        "y_ticks": y_ticks,
        "x_label": chart.x.label,
        "y_label": chart.y.label,
        "diagonal": [x(ends[0]), y(ends[0]), x(ends[1]), y(ends[1])] if chart.diagonal and ends[0] < ends[1] else [],
        "entries": entries,
        "series": series,
        "names": _place_names(series, left, right),
    }


def _values(value: float, interval: Range | None, leads_to: Range | None, axis: int) -> Iterator[float]:
    yield from (value, *(interval or ()), *((leads_to[axis],) if leads_to else ()))


def _scale(axis: Axis, values: Sequence[float], start: float, stop: float) -> Scale:
    return Scale.over([*values, *axis.ticks] or [0.0, 1.0], start, stop, logarithmic=axis.logarithmic)


def _ticks(axis: Axis, scale: Scale) -> list[tuple[float, str]]:
    if axis.ticks:
        return list(axis.ticks.items())
    values = np.round(MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(scale.low, scale.high), 9)
    return [(value, f"{value:g}".replace("-", "−")) for value in values if scale.low <= value <= scale.high]


def _legend(series: Sequence[Series]) -> tuple[list[dict], int]:
    """The entries from left to right in lines, and the height in pixels that they take."""
    entries, left, line = [], 4.0, 0
    for number, each in enumerate(series):
        if each.name:
            width = 24 + LETTER * len(each.name)
            if left > 4 and left + width > WIDTH:
                left, line = 4.0, line + 1
            hollow = all(point.hollow for point in each.points)
            at = {"x": round(left), "y": 10 + line * LINE}
            entries.append({"number": number, "name": each.name, "hollow": hollow} | at)
            left += width
    return entries, (line + 1) * LINE + 10 if entries else 10


def _lay_out_series(series: Series, x: Scale, y: Scale) -> dict:
    points = []
    for point in series.points:
        at = round(x(point.x) + series.shift, 1), y(point.y)
        width = [x(value) for value in point.x_interval or ()]
        height = [y(value) for value in point.y_interval or ()]
        bars = [f"M{width[0]} {at[1]}H{width[1]}", *(f"M{end} {at[1] - 3}v6" for end in width)] if width else []
        bars += [f"M{at[0]} {height[0]}V{height[1]}", *(f"M{at[0] - 3} {end}h6" for end in height)] if height else []
        if point.leads_to:
            to = x(point.leads_to[0]) + series.shift, y(point.leads_to[1])
            bars.append(f"M{at[0]} {at[1]}L{to[0]} {to[1]}m-3-3l6 6m0-6l-6 6")
        boxes = [(at[0] - 4, at[1] - 4, at[0] + 4, at[1] + 4)]
        boxes += [(width[0], at[1] - 1, width[1], at[1] + 1)] if width else []
        boxes += [(at[0] - 1, height[1], at[0] + 1, height[0])] if height else []
        points.append({"x": at[0], "y": at[1], "bars": "".join(bars), "boxes": boxes, "point": point})
    line = [(point["x"], point["y"]) for point in points] if series.line else []
    return {"points": points, "line": " ".join(f"{x},{y}" for x, y in line), "along": _boxes_along(line)}


def _boxes_along(line: Sequence[Range]) -> list[Box]:
    """Small boxes that cover a line from point to point."""
    shares = [step / 10 for step in range(11)]
    places = [(a + t * (c - a), b + t * (d - b)) for (a, b), (c, d) in pairwise(line) for t in shares]
    return [(x - 2, y - 2, x + 2, y + 2) for x, y in places]


def _place_names(series: Sequence[dict], left: float, right: float) -> list[dict]:
    """Put the names beside their points, where they cover least of points, lines, intervals and other names."""
    points = [(placed, each["number"]) for each in series for placed in each["points"]]
    taken: list[Box] = [box for placed, _ in points for box in placed["boxes"]]
    taken += [box for each in series for box in each["along"]]
    names = []
    for placed, number in points:
        x, y, text = placed["x"], placed["y"], placed["point"].name
        if not text:
            continue
        width = LETTER * len(text)
        spots = [(x + 7, y - 6), (x - 7 - width, y - 6), (x - width / 2, y - 19), (x - width / 2, y + 7)]
        spots += [(x + side, y + off) for off in (-18, 6, -30, 18) for side in (5, -5 - width)]

        def covered(spot: tuple[float, float], width: float = width) -> int:
            outside = spot[0] < left or spot[0] + width > right
            return 10 * outside + sum(
                spot[0] < box[2] and box[0] < spot[0] + width and spot[1] < box[3] and box[1] < spot[1] + 12
                for box in taken
            )

        found = min(spots, key=covered)
        taken.append((*found, found[0] + width, found[1] + 12))
        middle = round(found[0] + width / 2, 1)
        names.append({"x": middle, "y": round(found[1] + 10, 1), "text": text, "number": number})
    return names
