"""True times from videos to pairs: `gap_s` is right whatever a video's frame rate, gaps or start.

Each frame's gray level encodes its time, so that the truth comes from the pictures, not from the tables.
"""

import json

import numpy as np
import pytest
from PIL import Image
from stage_settings import frame_settings, pair_settings, settings_of
from tiny_scenes import SIZE, gray_film, poses_bounds, ring_cameras, write_film

from fourdistill.frames.extract import extract_frames
from fourdistill.pairs.build import build_pairs
from fourdistill.sources.readers import SourceFolder, read_source
from fourdistill.tables import FRAMES, PAIRS, read_table
from fourdistill.video.timeline import is_variable_rate

RATE = 0.01  # seconds per gray level


def write_clock(path, times_s, shown_s=None):
    """A video whose frames at `times_s` have the gray levels of `shown_s`, by default the same times."""
    levels = [10 + round(time / RATE) for time in (times_s if shown_s is None else shown_s)]
    assert max(levels) <= 250
    write_film(path, gray_film(levels), times_s)


def stage(folder, source, num_pairs=400, kinds=None, **displacement):
    """(frames, pairs, report); each frame has `shown_s`, the time encoded in its picture."""
    out = folder / "out"
    extract_frames(read_source(source), out / "frames", out / "t", out / "s", out / "r.json", frame_settings(size=SIZE))
    build_pairs(
        out / "t", out / "s", out / "p", out / "p.json", out / "g.csv",
        pair_settings({"train": num_pairs}, kinds or {"time": 1}), settings_of("displacement", **displacement), seed=0,
    )  # fmt: skip
    frames = read_table(out / "t", FRAMES).to_pylist()
    for row in frames:
        row["shown_s"] = (np.asarray(Image.open(out / "frames" / row["path"])).mean() - 10) * RATE
    return frames, read_table(out / "p", PAIRS).to_pylist(), json.loads((out / "r.json").read_text())


def check_gaps(frames, pairs, span_s, atol=0.012):
    """Every pair's gap, in seconds and as share of the scene, matches its two pictures."""
    shown = {(row["scene"], row["camera"], row["frame_index"]): row["shown_s"] for row in frames}
    for pair in pairs:
        source, target = (
            shown[pair["scene"], pair[f"{end}_camera"], pair[f"{end}_frame"]] for end in ("source", "target")
        )
        assert pair["gap_s"] == pytest.approx(source - target, abs=2 * atol)
        assert pair["normalized_gap"] == pytest.approx((source - target) / span_s, abs=2 * atol / span_s)
        assert pair["gap"] == pair["source_frame"] - pair["target_frame"]
    assert {pair["gap"] > 0 for pair in pairs} == {True, False}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_rate(tmp_path, suffix):
    times = np.array([0.0, 0.04, 0.2, 0.24, 0.9, 0.95, 1.0, 1.6, 2.0])
    write_clock(tmp_path / "raw" / f"phone{suffix}", times)
    frames, pairs, _ = stage(tmp_path, SourceFolder(tmp_path / "raw", "video"))
    np.testing.assert_allclose([row["timestamp_s"] for row in frames], times, atol=1e-3)
    np.testing.assert_allclose([row["shown_s"] for row in frames], times, atol=0.012)
    check_gaps(frames, pairs, span_s=2.0)


def test_variable_rate_at_fewer_frames_a_second(tmp_path):
    """The frames nearest to 0, 0.25, 0.5, ... s are kept; instants without a near frame stay empty."""
    times = np.array([0.0, 0.1, 0.26, 0.3, 0.52, 0.7, 0.74, 1.6, 1.74, 2.0])
    write_clock(tmp_path / "raw" / "phone.mp4", times)
    frames, pairs, report = stage(tmp_path, SourceFolder(tmp_path / "raw", "video", fps=4.0))
    assert [(row["frame_index"], round(row["shown_s"], 1)) for row in frames] == [
        (0, 0.0), (1, 0.3), (2, 0.5), (3, 0.7), (6, 1.6), (7, 1.7), (8, 2.0),
    ]  # fmt: skip
    assert report["missing_frames"] == [{"scene": "phone", "camera": "cam00", "instants": 2}]
    check_gaps(frames, pairs, span_s=2.0)


def test_cameras_with_offsets_and_lost_frames(tmp_path):
    """Three cameras: one started 0.3 s later, one lost frames; view pairs share one instant."""
    scene = tmp_path / "raw" / "stage"
    grid = np.arange(20) / 10
    write_clock(scene / "cam00.mp4", grid)
    write_clock(scene / "cam01.mp4", grid[:15], shown_s=grid[:15] + 0.3)
    kept = np.delete(grid, [4, 5, 11])
    write_clock(scene / "cam02.mp4", kept)
    np.save(scene / "poses_bounds.npy", poses_bounds(ring_cameras(3)))
    (scene / "sync.csv").write_text("camera,offset_s\ncam01,0.3\n")
    frames, pairs, report = stage(
        tmp_path, SourceFolder(tmp_path / "raw", "dynerf"), kinds={"time": 1, "view": 1, "joint": 1}, num_pairs=900
    )
    for row in frames:
        assert row["timestamp_s"] == pytest.approx(row["shown_s"], abs=0.012)
        assert row["frame_index"] == round(row["shown_s"] * 10)
    assert report["missing_frames"] == [{"scene": "stage", "camera": "cam02", "instants": 3}]
    check_gaps(frames, pairs, span_s=1.9)
    assert {pair["kind"] for pair in pairs} == {"time", "view", "joint"}
    assert all(abs(pair["gap_s"]) < 1e-6 for pair in pairs if pair["kind"] == "view")


def test_sub_sampling_a_long_film_does_not_drift(tmp_path):
    """Ten minutes of NTSC's 29.97 frames per second at 1.5: the last frame is as near to its instant as the first."""
    num = 1800
    rate = 30000 / 1001 / 10  # as many frames as in one minute, ten times as far apart
    times = np.arange(num) / rate
    write_film(tmp_path / "raw" / "long.mp4", gray_film([10 + index % 200 for index in range(num)]), times.tolist())
    frames, pairs, report = stage(tmp_path, SourceFolder(tmp_path / "raw", "video", fps=1.5))
    instants = np.array([row["frame_index"] for row in frames])
    stamps = np.array([row["timestamp_s"] for row in frames])
    assert report["missing_frames"] == [] and instants.tolist() == list(range(int(times[-1] * 1.5) + 1))
    assert np.abs(stamps - instants / 1.5).max() <= 0.5 / rate + 1e-3
    nearest = [int(np.abs(times - instant / 1.5).argmin()) for instant in instants]
    levels = np.array([row["shown_s"] for row in frames]) / RATE + 10
    np.testing.assert_allclose(levels, [10 + frame % 200 for frame in nearest], atol=1.5)
    for pair in pairs:
        assert pair["gap_s"] == pytest.approx(pair["gap"] / 1.5, abs=1 / rate + 1e-3)


def test_rounded_times_are_no_variable_rate():
    """Matroska counts milliseconds: 120 frames per second are 8 or 9 ms apart."""
    assert not is_variable_rate(np.round(np.arange(240) / 120, 3))
    assert not is_variable_rate(np.round(np.arange(240) / 29.97, 3))
    assert is_variable_rate(np.array([0, 0.0333, 0.0667, 0.1333, 0.1667]))
