"""Charts place values where their axes say, and names where they cover nothing."""

import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest

from fourdistill.evaluation.report.charts import Axis, Chart, Point, Scale, Series, draw, lay_out

X, Y = Axis("time, frames"), Axis("error, degrees")


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("logarithmic", [False, True])
def test_a_scale_keeps_order_and_all_values_inside(logarithmic):
    values = [1.0, 2.0, 16.0, 64.0]
    scale = Scale.over(values, 50, 350, logarithmic=logarithmic)
    places = [scale(value) for value in values]
    assert places == sorted(places) and places[0] > 50 and places[-1] < 350
    steps = [b - a for a, b in pairwise(places)]
    if logarithmic:  # three octaves, and two
        assert steps[1] / steps[0] == pytest.approx(3, rel=0.01) and steps[2] / steps[0] == pytest.approx(2, rel=0.01)
    else:
        assert steps[2] / steps[0] == pytest.approx(48, rel=0.05)


def test_one_value_has_an_axis_too():
    low_and_high = Scale.over([3.0], 0, 100)
    assert low_and_high(3.0) == 50


def test_points_intervals_and_diagonal_lie_on_the_ticks():
    point = Point(10, 20, "a", x_interval=(0, 20), y_interval=(0, 40))
    ticks = {0.0: "0", 10.0: "10", 20.0: "20", 40.0: "40"}
    chart = Chart("t", Axis("x", {k: v for k, v in ticks.items() if k < 40}), Axis("y", ticks), [Series("s", [point])])
    laid = lay_out(chart)
    x, y = ({text: at for at, text in laid[f"{axis}_ticks"]} for axis in "xy")
    [[placed]] = [series["points"] for series in laid["series"]]
    assert (placed["x"], placed["y"]) == (x["10"], y["20"])
    assert f"M{x['0']} {y['20']}H{x['20']}" in placed["bars"] and f"M{x['10']} {y['0']}V{y['40']}" in placed["bars"]
    diagonal = lay_out(Chart("t", chart.x, chart.y, chart.series, diagonal=True))["diagonal"]
    rise = (diagonal[3] - diagonal[1]) / (diagonal[2] - diagonal[0])
    assert rise == pytest.approx((y["20"] - y["0"]) / (x["20"] - x["0"]), abs=0.01)
    assert laid["diagonal"] == []


def test_series_can_stand_side_by_side():
    series = [Series(name, [Point(1, 1, "")], shift=shift) for name, shift in (("a", -3), ("b", 3))]
    left, right = (each["points"][0]["x"] for each in lay_out(Chart("t", X, Y, series))["series"])
    assert right - left == 6


def test_names_of_points_at_one_place_do_not_cover_each_other():
    points = [
        Point(5, 5, "", name="lambda 0"),
        Point(5.1, 5.1, "", name="lambda 1"),
        Point(0, 0, ""),
        Point(10, 10, ""),
    ]
    chart = lay_out(Chart("t", X, Y, [Series("s", points)]))
    (a, b) = chart["names"]
    assert abs(a["y"] - b["y"]) >= 12 or abs(a["x"] - b["x"]) >= 40
    edge = lay_out(Chart("t", X, Y, [Series("s", [Point(0, 0, ""), Point(10, 5, "", name="a rather long name")])]))
    assert edge["names"][0]["x"] < edge["right"] - 30


def test_a_long_legend_is_wrapped():
    short = lay_out(Chart("t", X, Y, [Series("a", [Point(0, 0, "")]), Series("b", [Point(1, 1, "")])]))
    long = lay_out(Chart("t", X, Y, [Series("a" * 40, [Point(0, 0, "")]), Series("b" * 40, [Point(1, 1, "")])]))
    assert [entry["y"] for entry in short["entries"]] == [10, 10]
    assert long["entries"][1]["y"] > long["entries"][0]["y"] and long["top"] > short["top"]


def test_a_file_has_a_heading_and_a_style_and_a_page_brings_its_own():
    chart = Chart("A <title> & more", X, Y, [Series("known", [Point(1, 2, "three\nlines <here>\n")])])
    alone, inside = draw(chart, alone=True), draw(chart)
    assert "A <title> & more" in texts(alone) and "A <title> & more" not in texts(inside)
    assert "prefers-color-scheme: dark" in alone and "<style" not in inside
    for svg in (alone, inside):
        assert {"time, frames", "error, degrees", "known"} <= set(texts(svg))
        assert "lines &lt;here&gt;" in svg
        assert re.findall(r'(?:href|src|url)="?\S+', svg) == []


def test_a_missed_point_is_hollow_and_leads_to_where_it_was_found():
    points = [Point(0, 0, "hit"), Point(4, 4, "missed", hollow=True, leads_to=(9, 4)), Point(5, 0, "")]
    laid = lay_out(Chart("t", X, Y, [Series("s", points)]))
    hit, missed = laid["series"][0]["points"][:2]
    assert hit["bars"] == "" and missed["bars"].startswith(f"M{missed['x']} {missed['y']}L")
    svg = draw(Chart("t", X, Y, [Series("s", points)]))
    assert svg.count('class="point hollow"') == 1
    [end] = re.findall(r"L([\d.]+) [\d.]+m", svg)
    assert missed["x"] < float(end) <= laid["right"]
