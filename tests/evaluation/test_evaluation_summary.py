import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fourdistill.evaluation.metrics.control import Outcomes
from fourdistill.evaluation.metrics.image_metrics import MAX_PSNR, psnr, ssim, to_tensor
from fourdistill.evaluation.metrics.summary import Summary, bootstrap_interval, summarise_groups, summarise_quality
from fourdistill.evaluation.protocol.command import Command, FrameKey
from fourdistill.evaluation.report.tables import format_quality
from fourdistill.evaluation.systems.side_by_side import COPY, MODEL
from fourdistill.geometry.displacement import Displacement

KEY = FrameKey("walk", "cam00", 0)


def truth(count=3):
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_psnr_is_the_decibels_of_the_squared_error_of_each_image():
    images = torch.full((3, 3, 16, 16), 0.5)
    shifted = images + torch.tensor([0.1, 0.01, 0.0]).view(3, 1, 1, 1)
    assert psnr(shifted, images) == pytest.approx([20, 40, MAX_PSNR], abs=1e-3)


def test_ssim_of_each_image_does_not_depend_on_the_batch():
    noisy = (truth() + 0.2 * torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    together = ssim(noisy, truth())
    alone = [ssim(noisy[i : i + 1], truth()[i : i + 1])[0] for i in range(3)]
    assert together == pytest.approx(alone, abs=1e-6)
    assert together.max() < 0.95
    assert ssim(truth(), truth()) == pytest.approx([1, 1, 1])


@given(st.floats(0.02, 0.2), st.floats(1.3, 3))
@settings(max_examples=15, deadline=None)
def test_more_noise_is_a_lower_score(sigma, factor):
    noise = torch.randn(truth().shape, generator=torch.Generator().manual_seed(2))
    for metric in (psnr, ssim):
        assert (metric(truth() + sigma * noise, truth()) > metric(truth() + factor * sigma * noise, truth())).all()


def test_pictures_become_channels_first_in_unit_range():
    image = Image.new("RGB", (5, 4), (255, 0, 51))
    pixels = to_tensor([image, image])
    assert pixels.shape == (2, 3, 4, 5)
    assert pixels[0, :, 0, 0].tolist() == pytest.approx([1, 0, 0.2])


def commands():
    kinds = ("time", "time", "view", "joint")
    return [Command(kind, KEY, KEY, Displacement.from_user(), None) for kind in kinds]


def summarise(systems, members, large, num_bootstrap):
    summary = Summary(num_bootstrap, seed=0)
    summarise_quality(systems, members, large, summary)
    return summary.metrics


def test_summary_names_every_group_and_means_over_it():
    scores = {MODEL: {"psnr": np.array([10.0, 20, 30, 40])}, COPY: {"psnr": np.array([8.0, 8, 8, 8])}}
    large = np.array([True, False, False, True])
    metrics = summarise(scores, commands(), large, 200)
    expected = {"psnr": 25, "psnr.large": 25, "psnr.small": 25, "time.psnr": 15, "view.psnr": 30, "joint.psnr": 40}
    expected |= {"baseline.copy.psnr": 8, "baseline.copy.psnr.large": 8, "baseline.copy.time.psnr": 8}
    expected |= {"num_pairs": 4, "num_pairs.large": 2, "time.num_pairs": 2, "view.num_pairs": 1}
    assert {name: metrics[name] for name in expected} == expected
    assert metrics["psnr.ci_low"] < 25 < metrics["psnr.ci_high"]
    assert metrics["baseline.copy.psnr.ci_low"] == metrics["baseline.copy.psnr.ci_high"] == 8
    json.dumps(metrics, allow_nan=False)


def test_a_group_without_pairs_has_no_mean():
    metrics = summarise({MODEL: {"psnr": np.ones(2)}}, commands()[:2], np.zeros(2, bool), 10)
    assert metrics["view.num_pairs"] == 0 and "view.psnr" not in metrics and "psnr.large" not in metrics


def test_table_has_a_cell_for_every_group_and_a_dash_where_there_is_no_pair():
    scores = {MODEL: {"psnr": np.array([10.0, 20]), "ssim": np.array([0.5, 0.7])}}
    lines = format_quality(summarise(scores, commands()[:2], np.array([True, False]), 10)).splitlines()
    assert lines[0].split() == ["all", "small", "large", "time", "view", "joint", "known", "new"]
    assert lines[1].split() == ["pairs", "2", "1", "1", "2", "0", "0", "2", "0"]
    assert lines[2].split() == ["PSNR,", "generated", "15.00", "20.00", "10.00", "15.00", "-", "-", "15.00", "-"]
    assert lines[3].split() == ["SSIM,", "generated", "0.600", "0.700", "0.500", "0.600", "-", "-", "0.600", "-"]
    assert len(lines) == 4  # no row for a system that was not scored


def test_interval_is_seeded_and_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    values = rng.normal(size=50)
    again = [bootstrap_interval(values, 300, np.random.default_rng(5)) for _ in range(2)]
    assert again[0] == again[1]
    intervals = [bootstrap_interval(rng.normal(size=40), 300, rng) for _ in range(300)]
    covered = np.mean([low <= 0 <= high for low, high in intervals])
    assert 0.88 <= covered <= 0.98


def test_control_is_also_told_for_known_and_new_scenes_apart():
    def sweep(new_scene):
        return [
            Command("time", KEY, FrameKey("walk", "cam00", i), Displacement.from_user(0.0), None, None, new_scene)
            for i in (1, 2)
        ]

    frames = np.array([1.0, -1.0, 5.0, 7.0])
    blank = np.full(4, np.nan)
    result = Outcomes(frames, frames / 10, blank, blank, np.zeros(4, bool), np.arange(4.0), blank, np.arange(4))
    summary = Summary(20, seed=0)
    summarise_groups("", [sweep(False), sweep(True)], result, summary)
    names = ("time.mae_frames", "known_scene.time.mae_frames", "new_scene.time.mae_frames")
    assert [summary.metrics[name] for name in names] == [3.5, 1, 6]
    assert [summary.metrics[name.replace("mae_frames", "spearman")] for name in names] == [1, 1, 1]
    summary = Summary(20, seed=0)
    summarise_groups("", [sweep(True)], result[np.array([2, 3])], summary)
    assert "known_scene.time.mae_frames" not in summary.metrics


def test_values_of_one_group_are_resampled_together():
    values, groups = np.array([0.0] * 8 + [1.0] * 8), np.repeat([0, 1], 8)
    summary = Summary(400, seed=0)
    summary.add("together", values, groups=groups)
    summary.add("apart", values)
    summary.add("median", values, np.median, groups=groups)
    summary.add("one", values, groups=np.zeros(16))
    figures = summary.metrics
    assert (figures["together"], figures["together.ci_low"], figures["together.ci_high"]) == (0.5, 0, 1)
    assert 0.1 < figures["apart.ci_low"] < 0.5 < figures["apart.ci_high"] < 0.9
    assert (figures["median.ci_low"], figures["median.ci_high"]) == (0, 1)
    assert figures["one"] == 0.5 and "one.ci_low" not in figures
