import json

from dvc.compare import metrics_table
from imports import ROOT

from fourdistill.evaluation.report.headline import HEADLINE, headline

TERMINAL = 160  # columns


def test_the_figures_are_rounded_and_what_was_not_measured_is_left_out():
    assert headline({"psnr": 20.61849, "new_scene.psnr": 19.3, "ssim": 0.9}) == {"psnr": 20.62, "psnr.new": 19.3}


def test_as_dvc_shows_them_they_fit_a_terminal():
    figures = dict.fromkeys(HEADLINE, 0.1234)  # the usual number of digits
    table = metrics_table({"workspace": {"data": {"metrics.json": {"data": figures}}}}, round_digits=True, precision=5)
    widths = [max(len(str(text)) for text in [name, *table.column(name)]) + 2 for name in table.keys()]  # noqa: SIM118
    assert set(HEADLINE) <= set(table.keys())
    assert sum(widths) <= TERMINAL


def test_the_committed_figures_are_the_headline():
    assert set(json.loads((ROOT / "metrics.json").read_text())) == set(HEADLINE)
