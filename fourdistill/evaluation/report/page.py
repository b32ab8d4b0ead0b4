"""The report as one self-contained page: charts, tables with intervals, contact sheets and animations."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2

from fourdistill.evaluation.report.charts import draw
from fourdistill.evaluation.report.plots import commanded_and_obtained, grid, read_points, trade_off
from fourdistill.evaluation.report.sheets import EDITS_SHEET
from fourdistill.evaluation.report.tables import SECTIONS, Columns, labels_of
from fourdistill.storage.files import new_file

NOTES = {
    "Commanded and obtained": "The displacement of the true frame that each image of a sweep is most like, against the "
    "one that was commanded. On the dashed line both are the same; the larger a mark, the more commands it stands for. "
    "An azimuth is drawn on the shorter arc from the commanded one, so it may exceed 180°.",
    "Hits and misses": "All sweeps on the camera × time grids of their scenes. The square is the image that a sweep "
    "starts from. A filled mark is a commanded cell whose true frame the image was most like, a hollow one was missed; "
    "its line ends at the cell of the frame that the image was most like instead.",
    "Fidelity and editability": "Commands with another scene's caption for their prompt, at several settings: "
    "how like the truth and how like the prompt the images are (cosines in CLIP's space, bars: 95 % intervals).",
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
    charts = {
        "Commanded and obtained": commanded_and_obtained(points, metrics),
        "Hits and misses": [grid(points, scene) for scene in dict.fromkeys(point["scene"] for point in points)],
        "Fidelity and editability": trade_off(read_points(plots / "editability.csv")),
    }
    page = environment.get_template("page.html.j2").render(
        title="4Distillation: evaluation",
        facts=facts,
        charts=[
            {"title": title, "note": NOTES[title], "charts": [{"title": c.title, "svg": draw(c)} for c in of]}
            for title, of in charts.items()
            if of
        ],
        tables=[each for each in tables if each["rows"]],
        sweeps=[embed(file) for file in sorted(pictures.glob("*.gif"))],
        strips=[embed(file) for file in sorted(pictures.glob("*.png")) if file.with_suffix(".gif").is_file()],
        edits=[embed(file) for file in pictures.glob(f"{EDITS_SHEET}.png")],
        pairs=[embed(file) for file in sorted(pictures.glob("pairs_*.png"))],
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


def embed(path: Path) -> dict[str, str]:
    """An image as a data URL."""
    kind = path.suffix.removeprefix(".")
    return {"name": path.stem, "data": f"data:image/{kind};base64,{b64encode(path.read_bytes()).decode()}"}
