"""`benchmarks/guidance.py`: its figures for known answers."""

import importlib.util

import numpy as np
import pytest
from imports import ROOT
from PIL import Image
from tiny_evaluation import make_pipe
from tiny_scenes import SIZE

from fourdistill.evaluation.metrics.cells import read_cells
from fourdistill.evaluation.metrics.feature_spaces import FeatureSpaces
from fourdistill.evaluation.protocol.frames import FrameReader
from fourdistill.evaluation.protocol.sweeps import build_sweeps

spec = importlib.util.spec_from_file_location("guidance", ROOT / "benchmarks" / "guidance.py")
assert spec is not None and spec.loader is not None
guidance = importlib.util.module_from_spec(spec)
spec.loader.exec_module(guidance)


@pytest.fixture(scope="module")
def measured(tiny_base, grid_scenes):
    """(rows, requested weights) of a painter that hits the target only at time guidance 3 and otherwise copies."""
    pipe = make_pipe(tiny_base)
    read = FrameReader(grid_scenes.frames_table, grid_scenes.frames, SIZE)
    spaces = FeatureSpaces(pipe.vae, pipe.image_encoder, pipe.feature_extractor, SIZE, 4)
    rng = np.random.default_rng(0)
    sweeps = build_sweeps(
        grid_scenes.frames_table, grid_scenes.scenes_table, 1, 3, max_gap=None, max_gap_s=None, rng=rng
    )
    asked = []

    def paint(commands, description, **changed):
        asked.append(changed)
        side = "target" if changed.get("time_guidance") == 3 else "source"
        return [read(getattr(command, side)) for command in commands]

    cells = read_cells({"walk"}, grid_scenes.frames_table, grid_scenes.scenes_table, read, spaces)
    return guidance.measure(paint, spaces, cells, sweeps, 50), asked


def test_one_guidance_changes_at_a_time(measured):
    rows, asked = measured
    names = [(row["guidance"], row["weight"]) for row in rows]
    assert names == [(name, w) for name in ("time_guidance", "view_guidance") for w in (1, 1.5, 2, 3)]
    assert asked == [{name: weight} for name, weight in names]


def test_perfect_answers_have_no_error_and_copies_no_leakage(measured):
    rows, _ = measured
    perfect, copy = rows[3], rows[0]
    assert perfect["joint_top1"] == 1 and copy["joint_top1"] == 0
    for name in ("time_frames", "azimuth_deg"):
        assert perfect[name] == pytest.approx(0, abs=1e-3) and copy[name] > 1
    for name in ("leaked_frames", "leaked_azimuth_deg"):
        assert perfect[name] == pytest.approx(0, abs=1e-3) and copy[name] == pytest.approx(0, abs=1e-3)


def test_the_plot_is_drawn_also_where_a_kind_was_not_swept(measured, tmp_path):
    rows, _ = measured
    for given in (rows, [{name: value for name, value in row.items() if "azimuth" not in name} for row in rows]):
        guidance.draw(given, tmp_path / "guidance.png")
        with Image.open(tmp_path / "guidance.png") as image:
            assert image.width > image.height > 300
