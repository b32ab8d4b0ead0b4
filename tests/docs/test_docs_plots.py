"""The charts of the documents show the committed figures, and those of the ablation once they are there."""

import importlib.util
import re

import pytest
from imports import ROOT

from fourdistill.evaluation.report.plots import read_points

spec = importlib.util.spec_from_file_location("plots", ROOT / "docs/plots.py")
assert spec is not None and spec.loader is not None
plots = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plots)

MEASURED = read_points(ROOT / "benchmarks/words.csv")
TEXT = (ROOT / "docs/ablation.md").read_text(encoding="utf-8")


def points(chart, series):
    [found] = [each for each in chart.series if each.name == series]
    return {point.x: point.y for point in found.points}


def collected(*names):
    known = [name for _, name, _ in plots.ERRORS.values()]
    figures = [name.replace("known_", f"{group}_") for name in known for group in ("known", "new")]
    return [{"experiment": name, "given": "", **dict.fromkeys(figures, "0.5 (2e-05 … 0.75)")} for name in names]


def test_every_figure_of_the_words_stands_in_the_document():
    rows = [re.sub(r"[*° %]", "", line).strip("|").split("|") for line in TEXT.splitlines() if line.startswith("|")]
    for row in MEASURED:
        if row["commands"] == "sweeps" and row["words"] != "64":  # rounded in the document
            columns = slice(2, 5) if row["scenes"] == "known" else slice(5, 8)
            [found] = [cells for cells in rows if cells[0] == row["words"] and len(cells) == 9]
            shown = [row["time_frames"], row["azimuth_deg"], f"{float(row['joint_top1']) * 100:.0f}"]
            assert found[columns] == shown
    assert all(row["error"] in TEXT for row in read_points(ROOT / "benchmarks/prior_curve.csv"))


def test_figures_of_the_ablation_take_the_place_of_the_sweeps_once_they_are_complete():
    names = [f"ablation-{name}-seed0" for name in ("1-word", "8-words", "32-words", "default")]
    before = plots.over_words(MEASURED, [])["words_time"]
    assert points(before, "known scenes") == {1: 9.7, 8: 8.2, 32: 1.5, 64: 0.92}
    assert plots.over_words(MEASURED, collected(*names[:3]))["words_time"] == before
    others = ["ablation-default-seed1", "ablation-ddpm-loss-seed0"]
    after = plots.over_words(MEASURED, collected(*names, *others))["words_time"]
    assert points(after, "new scenes") == dict.fromkeys((1, 8, 32, 64), 0.5)
    assert after.series[0].points[0].y_interval == (2e-05, 0.75)
    assert points(after, "known, random commands") == {4: 8.0, 16: 1.9, 64: 0.3}


def test_learning_curves_are_by_number_of_words():
    names = {"ablation-8-words-seed0": 8, "ablation-1-word-seed0": 1}
    rows = [
        {"experiment": name, "figure": figure, "step": step, "value": "0.25"}
        for name in names
        for figure in ("val.loss", "train.loss")
        for step in ("0", "800")
    ]
    chart = plots.words_curve(rows, names)
    assert [series.name for series in chart.series] == ["1 word", "8 words"]
    assert points(chart, "8 words") == {0: 0.25, 25.6: 0.25}


@pytest.mark.parametrize("path", sorted((ROOT / "docs/images").glob("plot_*.svg")), ids=lambda path: path.name)
def test_every_picture_is_small_and_shown(path):
    assert path.stat().st_size < 150_000
    assert f"images/{path.name}" in TEXT
