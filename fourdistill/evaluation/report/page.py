"""The report as one self-contained page: tables with intervals, plots, contact sheets and animations."""

import csv
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from fourdistill.evaluation.report.sheets import EDITS_SHEET
from fourdistill.evaluation.report.tables import SECTIONS, Columns, labels_of
from fourdistill.storage.files import new_file

WIDTH, HEIGHT = 270, 240  # of a plot, as in the template
NOTES = {
    "Control": "Each picture of a sweep is looked up among all true frames of its scene: how far from the commanded "
    "place it was found. Errors: less is better; rank correlation and top-1: more.",
    "Control, known scenes": "Held-out cameras and instants of scenes that training saw otherwise.",
    "Control, new scenes": "Scenes of which training saw nothing.",
    "Image quality": "Against the true frame, over held-out pairs; large displacements are those that copying fails.",
    "Silhouette and colour": "Over held-out pairs whose figure stands out from its backdrop: overlap of the generated "
    "and the true figure, share of the generated one in floating pieces, colour difference (CIEDE2000) on the true.",
    "Second opinion": "As EfficientNet-Lite0 sees it, which others trained on photographs: distance from the true "
    "picture, kernel distance from all true pictures, and control in its space.",
    "Sequences": "Time and camera sweeps as sequences. Similarity is to be compared with that of the truth.",
    "Prompts": "Joint commands of the sweeps with another scene's caption for their prompt: how like the prompt and "
    "the truth the pictures are, and how far from the commanded place they were found, as for control.",
    "Poses": "Orbits as structure from motion sees them, relative to the first registered picture, scale normalised.",
}


@dataclass(frozen=True)
class Cell:
    """A figure and its 95 % interval as text; the bounds are empty if there is no interval."""

    value: str
    low: str
    high: str


def write_page(path: Path, metrics: Mapping[str, float], pictures: Path, plots: Path, facts: str) -> None:
    """Write the page from the metrics, the folder of images and the folder of plot points (CSV)."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    tables = [table(metrics, title, columns) for title, columns in SECTIONS.items()]
    points = read_points(plots / "control.csv")
    in_time = [point for point in points if point["kind"] != "view"]
    in_view = [point for point in points if point["kind"] != "time"]
    edits = read_points(plots / "editability.csv")
    page = environment.get_template("page.html.j2").render(
        title="4Distillation: evaluation",
        facts=facts,
        tables=[each for each in tables if each["rows"]],
        plots=[
            scatter(in_time, "commanded_frames", "obtained_frames", "Time, frames", diagonal=True),
            scatter(in_view, "commanded_azimuth_deg", "obtained_azimuth_deg", "Azimuth, degrees", diagonal=True),
            scatter(edits, "clip_t", "clip_i", "Editability (x), fidelity (y)", name="setting"),
        ],
        sweeps=[embed(file) for file in sorted(pictures.glob("*.gif"))],
        sheets=[embed(file) for file in sorted(pictures.glob("*.png")) if file.stem != EDITS_SHEET],
        edits=[embed(file) for file in pictures.glob(f"{EDITS_SHEET}.png")],
    )
    with new_file(path) as partial:
        partial.write_text(page, encoding="utf-8")


def table(metrics: Mapping[str, float], title: str, columns: Columns) -> dict:
    """One table for the template; systems without figures are left out."""

    def cell(name: str, digits: int) -> Cell | None:
        if name not in metrics:
            return None
        found = (metrics.get(name + suffix) for suffix in ("", ".ci_low", ".ci_high"))
        return Cell(*("" if value is None else f"{value:.{digits}f}" for value in found))

    rows = [
        {"label": label, "cells": [cell(prefix + name, digits) for name, digits in columns.values()]}
        for prefix, label in labels_of(title).items()
    ]
    return {
        "title": title,
        "note": NOTES[title],
        "columns": list(columns),
        "rows": [r for r in rows if any(r["cells"])],
    }


def read_points(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file of points."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def scatter(
    points: Sequence[Mapping[str, str]], x: str, y: str, title: str, *, diagonal: bool = False, name: str = ""
) -> dict:
    """A scatter plot for the template; with a diagonal, both axes share one range.

    `name`: the column that labels each point.
    """
    xs, ys = ([float(point[name]) for point in points] for name in (x, y))
    x_range, y_range = axis(xs + ys if diagonal else xs), axis(xs + ys if diagonal else ys)

    def place(value_x: float, value_y: float) -> tuple[float, float]:
        (x_low, x_high), (y_low, y_high) = x_range, y_range
        return (
            round((value_x - x_low) / (x_high - x_low) * WIDTH, 1),
            round(HEIGHT - (value_y - y_low) / (y_high - y_low) * HEIGHT, 1),
        )

    shown = [
        {
            **dict(zip("xy", place(*xy), strict=True)),
            "label": ", ".join(f"{k} {v}" for k, v in point.items()),
            "name": point[name] if name else "",
        }
        for point, xy in zip(points, zip(xs, ys, strict=True), strict=True)
    ]
    corners = [(0, HEIGHT), (WIDTH, 0)]
    texts = {"x_low": x_range[0], "x_high": x_range[1], "y_low": y_range[0], "y_high": y_range[1]}
    return {
        "title": title,
        "points": shown,
        "diagonal": "M {} {} L {} {}".format(*corners[0], *corners[1]) if diagonal else "",
        "x_label": x.replace("_", " "),
        "y_label": y.replace("_", " "),
        **{name: f"{value:.3g}" for name, value in texts.items()},
    }


def axis(values: Sequence[float]) -> tuple[float, float]:
    """A non-empty range that contains all values."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def embed(path: Path) -> dict[str, str]:
    """An image as a data URL."""
    kind = path.suffix.removeprefix(".")
    return {"name": path.stem, "data": f"data:image/{kind};base64,{b64encode(path.read_bytes()).decode()}"}
