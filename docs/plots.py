"""The charts of docs/ablation.md, drawn as the report page draws them.

    python docs/plots.py  # after `make repro`; writes docs/images/plot_*.svg

Commanded against obtained, the trade-off and the grids are of the last evaluation. Control over the number of words is
of `benchmarks/words.csv`; once `benchmarks/ablation.py collect` has found all its numbers of words, they take the place
of its sweeps, and bring the learning curves of the words. That of the prior is of `benchmarks/prior_curve.csv`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from fourdistill.evaluation.report.charts import Axis, Chart, Point, Series, draw
from fourdistill.evaluation.report.plots import commanded_and_obtained, grid, read_points, trade_off
from fourdistill.storage.files import new_file

Row = Mapping[str, str]
DEFAULT_WORDS = 64  # where an experiment does not set their number: the image tokens of the mini base
BATCH = 32  # samples of a step of the ablation
TICKS = {float(words): str(words) for words in (1, 2, 4, 8, 16, 32, 64)}
ERRORS = {
    "time": ("time_frames", "known_scene.time.mae_frames", "error in time, frames"),
    "azimuth": ("azimuth_deg", "known_scene.view.azimuth_error_deg", "error in azimuth, degrees"),
    "top1": ("joint_top1", "known_scene.joint.top1", "hits of joint commands, share"),
}
"""Short name => column of `words.csv`, figure of the ablation (for new scenes alike), label."""
SERIES = {
    ("sweeps", "known"): "known scenes",
    ("sweeps", "new"): "new scenes",
    ("random", "known"): "known, random commands",
    ("random", "new"): "new, random commands",
}


def main(
    plots: Annotated[Path, typer.Option(help="Points of an evaluation.")] = Path("plots"),
    figures: Annotated[Path, typer.Option(help="Figures of the same one.")] = Path("reports/figures.json"),
    benchmarks: Path = Path("benchmarks"),
    out: Path = Path("docs/images"),
    scenes: Annotated[list[str] | None, typer.Option("--scene", help="Whose grids are drawn.")] = None,
) -> None:
    """Draw every chart whose points are there."""
    points = read_points(plots / "control.csv")
    metrics = json.loads(figures.read_text(encoding="utf-8"))
    of_scenes = scenes or ["scene041_cartwheel", "scene085_walk"]
    charts = dict(zip(("time", "azimuth"), commanded_and_obtained(points, metrics), strict=False))
    charts |= {f"grid_{i}": grid(points, scene) for i, scene in enumerate(of_scenes, start=1)}
    charts |= {f"trade_off_{i}": c for i, c in enumerate(trade_off(read_points(plots / "editability.csv")), start=1)}
    collected = read_if_there(benchmarks / "ablation.csv")
    charts |= over_words(read_points(benchmarks / "words.csv"), collected)
    charts["prior_curve"] = prior_curve(read_points(benchmarks / "prior_curve.csv"))
    curves = read_if_there(benchmarks / "ablation_curves.csv")
    if len(words_of(collected)) > 1:
        charts["words_curve"] = words_curve(curves, words_of(collected))
    for name, chart in charts.items():
        with new_file(out / f"plot_{name}.svg") as partial:
            partial.write_text(draw(chart, alone=True) + "\n", encoding="utf-8")


def read_if_there(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, none if there is no such file."""
    return read_points(path) if path.is_file() else []


def over_words(measured: Sequence[Row], collected: Sequence[Row]) -> dict[str, Chart]:
    """Each measure of control over the number of words."""
    words = words_of(collected)
    anew = [
        {"words": str(words[row["experiment"]]), "commands": "sweeps", "scenes": group}
        | {column: row[name.replace("known_", f"{group}_")] for column, name, _ in ERRORS.values()}
        for row in collected
        if row["experiment"] in words
        for group in ("known", "new")
    ]
    sweeps = [row for row in measured if row["commands"] == "sweeps"]
    others = [row for row in measured if row["commands"] != "sweeps"]
    complete = {int(row["words"]) for row in sweeps} <= set(words.values())  # trained alike, or not comparable
    rows = others + (anew if complete else sweeps)
    return {f"words_{short}": _over_words(rows, column, label) for short, (column, _, label) in ERRORS.items()}


def _over_words(rows: Sequence[Row], column: str, label: str) -> Chart:
    series = []
    for (commands, group), name in SERIES.items():
        members = [r for r in rows if (r["commands"], r["scenes"]) == (commands, group) and r[column] != "–"]
        points = []
        for row in sorted(members, key=lambda row: int(row["words"])):
            value, *interval = map(float, re.findall(r"-?\d[\d.]*(?:e[+-]\d+)?", row[column]))
            ends = (interval[0], interval[1]) if interval else None
            points.append(Point(int(row["words"]), value, row[column], y_interval=ends, hollow=commands == "random"))
        series.append(Series(name, points, line=commands == "sweeps"))
    return Chart(f"Number of words: {label}", Axis("number of words", TICKS, logarithmic=True), Axis(label), series)


def words_of(collected: Sequence[Row]) -> dict[str, int]:
    """Name => number of words, of those experiments of the ablation that differ in nothing else."""
    found = {}
    for row in collected:
        if match := re.fullmatch(r"ablation-(?:default|(\d+)-words?)-seed0", row["experiment"]):
            found[row["experiment"]] = int(match[1] or DEFAULT_WORDS)
    return found


def words_curve(curves: Sequence[Row], words: Mapping[str, int]) -> Chart:
    """The validation loss of the words over the samples, for each number of words."""
    series = []
    for name, number in sorted(words.items(), key=lambda item: item[1]):
        rows = [row for row in curves if (row["experiment"], row["figure"]) == (name, "val.loss")]
        points = [Point(int(row["step"]) * BATCH / 1000, float(row["value"]), row["value"]) for row in rows]
        series.append(Series(f"{number} word{'s' if number > 1 else ''}", points, line=True))
    axes = Axis("samples seen, thousands"), Axis("validation loss")
    return Chart("Learning curves of the words", *axes, series, height=200)


def prior_curve(rows: Sequence[Row]) -> Chart:
    """The error of the prior's codes over its steps."""
    points = [Point(int(row["step"]) / 1000, float(row["error"]), row["error"], row["error"]) for row in rows]
    axes = Axis("steps of 512 pairs, thousands"), Axis("squared error, two new scenes")
    return Chart("Learning curve of the prior: error of its codes", *axes, [Series("", points, line=True)], height=200)


if __name__ == "__main__":
    typer.run(main)
