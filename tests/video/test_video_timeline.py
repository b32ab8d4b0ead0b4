import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from stage_settings import frame_settings, pair_settings, settings_of
from tiny_scenes import SIZE, gray_film, write_dynerf, write_film

from fourdistill.frames.extract import extract_frames
from fourdistill.pairs.build import build_pairs
from fourdistill.sources.readers import SourceFolder, read_source
from fourdistill.tables import FRAMES, PAIRS, read_table
from fourdistill.video.timeline import agree, align, count_missing, is_variable_rate


def extract(tmp_path, source, max_bad_fraction=0.05):
    """(rows with the mean gray level of their pictures, report) of one source."""
    folder = tmp_path / "out"
    extract_frames(
        read_source(source), folder / "frames", folder / "t.parquet", folder / "s.parquet", folder / "r.json",
        frame_settings(size=SIZE, max_bad_fraction=max_bad_fraction),
    )  # fmt: skip
    rows = read_table(folder / "t.parquet", FRAMES).to_pylist()
    for row in rows:
        row["level"] = np.asarray(Image.open(folder / "frames" / row["path"])).mean()
    return rows, json.loads((folder / "r.json").read_text())


def test_cameras_that_agree_are_left_alone():
    times = [np.arange(5) / 30, np.arange(4) / 30 + 0.001]
    for kept, camera in zip(align(times), times, strict=True):
        assert kept.frames.tolist() == kept.instants.tolist() == list(range(len(camera)))


def test_a_film_of_variable_rate_keeps_all_its_frames():
    times = np.array([0.0, 0.04, 0.2, 0.24, 0.9])
    (kept,) = align([times])
    assert kept.frames.tolist() == kept.instants.tolist() == [0, 1, 2, 3, 4]
    assert is_variable_rate(times) and not is_variable_rate(np.arange(9) / 29.97)


@given(st.floats(5, 120), st.integers(-40, 40), st.integers(20, 60))
def test_a_later_start_is_made_good(rate, shift, num):
    """Two cameras of equal rate, one starting whole frames later: frames of one instant share its number."""
    first, second = np.arange(num) / rate, (np.arange(num) + shift) / rate
    one, two = align([first, second])
    assert len(one.frames) == len(two.frames) == num
    at = dict(zip(two.instants, second[two.frames], strict=True))
    shared = [(first[frame], at[instant]) for frame, instant in zip(*_both(one), strict=True) if instant in at]
    assert len(shared) == max(0, num - abs(shift))
    assert all(abs(a - b) < 1e-6 for a, b in shared)


def _both(kept):
    return kept.frames.tolist(), kept.instants.tolist()


@given(st.lists(st.integers(1, 38), min_size=1, max_size=12, unique=True))
def test_dropped_frames_shift_nothing(dropped):
    whole = np.arange(40) / 30
    torn = np.delete(whole, dropped)
    one, two = align([whole, torn])
    assert one.instants.tolist() == list(range(40))
    assert [round(time * 30) for time in torn[two.frames]] == two.instants.tolist()
    inner = range(two.instants[0], two.instants[-1])
    assert count_missing([one, two]) == [0, sum(number in inner for number in dropped)]


@given(st.floats(1, 60), st.floats(1, 60), st.integers(2, 400))
def test_sub_sampling_does_not_drift(rate, fps, num):
    """For any length: the kept frame is the nearest to k / fps, and no frame is kept twice."""
    times = 3.0 + np.arange(num) / rate
    (kept,) = align([times], fps)
    assert (np.diff(kept.frames) > 0).all() and (np.diff(kept.instants) > 0).all()
    instants = 3.0 + kept.instants / fps
    assert (np.abs(times[kept.frames] - instants) <= 0.5 / min(fps, rate) + 1e-9).all()
    for instant, frame in zip(instants, kept.frames, strict=True):
        assert abs(times[frame] - instant) <= np.abs(times - instant).min() + 1e-12
    if fps <= rate:
        assert count_missing([kept]) == [0]


@given(
    st.lists(st.floats(0.001, 0.5), min_size=1, max_size=40), st.lists(st.floats(0.001, 0.5), min_size=1, max_size=40)
)
def test_any_two_clocks_give_each_instant_one_frame(first, second):
    times = [np.cumsum(first), np.cumsum(second)]
    for fps in (None, 7.0):
        for kept, camera in zip(align(times, fps), times, strict=True):
            assert (np.diff(kept.instants) > 0).all() and (np.diff(kept.frames) > 0).all()
            assert len(kept.frames) <= len(camera) and (kept.instants >= 0).all()


def test_agree():
    assert agree([np.arange(3) / 10, np.arange(5) / 10])
    assert not agree([np.arange(9) / 10, np.arange(9) / 10 + 0.5])


def test_offsets_come_from_the_table(tmp_path):
    """Camera 1 started two frames later: its first frame matches frame 2 of the others."""
    scene = write_dynerf(tmp_path / "raw" / "kick", num_cameras=3, num_frames=8)
    write_film(scene / "cam01.mp4", gray_film([10 + 20 * (index + 2) + 1 for index in range(6)]))
    (scene / "sync.csv").write_text("camera,offset_s\ncam01,0.25\n")
    rows, report = extract(tmp_path, SourceFolder(tmp_path / "raw", "dynerf"))
    for row in rows:
        assert abs(row["level"] - (10 + 20 * row["frame_index"] + int(row["camera"][3:]))) < 2
        assert row["timestamp_s"] == pytest.approx(row["frame_index"] / 8)
        assert row["time"] == pytest.approx(row["frame_index"] / 7)
    assert [row["frame_index"] for row in rows if row["camera"] == "cam01"] == list(range(2, 8))
    assert report["missing_frames"] == []


def test_a_camera_that_drops_frames_stays_in_step(tmp_path):
    scene = write_dynerf(tmp_path / "raw" / "kick", num_cameras=3, num_frames=8)
    kept = [0, 1, 4, 5, 6, 7]
    write_film(scene / "cam02.mp4", gray_film([12 + 20 * index for index in kept]), [index / 8 for index in kept])
    rows, report = extract(tmp_path, SourceFolder(tmp_path / "raw", "dynerf"))
    assert all(abs(row["level"] - (10 + 20 * row["frame_index"] + int(row["camera"][3:]))) < 2 for row in rows)
    assert report["missing_frames"] == [{"scene": "kick", "camera": "cam02", "instants": 2}]


def test_fps_of_a_source(tmp_path):
    """Videos with 24 and 8 frames per second, sampled at 4: same instants, and true gaps in seconds."""
    write_film(tmp_path / "raw" / "room" / "fast.mp4", gray_film(range(10, 202, 4)), [i / 24 for i in range(48)])
    write_film(tmp_path / "raw" / "room" / "slow.mp4", gray_film(range(10, 202, 12)), [i / 8 for i in range(16)])
    rows, _ = extract(tmp_path, SourceFolder(tmp_path / "raw", "video", fps=4))
    assert [row["frame_index"] for row in rows] == [*range(8), *range(8)]
    for row in rows:
        assert row["timestamp_s"] == pytest.approx(row["frame_index"] / 4, abs=1e-3)
        assert abs(row["level"] - (10 + 4 * 6 * row["frame_index"])) < 2
    table = tmp_path / "out" / "t.parquet"
    build_pairs(
        table, table.with_name("s.parquet"), tmp_path / "pairs", tmp_path / "p.json", tmp_path / "g.csv",
        pair_settings({"train": 200}, {"time": 1}), settings_of("displacement"), seed=0,
    )  # fmt: skip
    for pair in read_table(tmp_path / "pairs", PAIRS).to_pylist():
        assert pair["gap_s"] == pytest.approx(pair["gap"] / 4, abs=2e-3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("camera,offset_s\ncam09,1\n", "line 2: camera"),
        ("camera,offset_s\ncam01,1\ncam01,2\n", "line 3: camera"),
        ("camera,offset_s\ncam01,soon\n", "offset_s: expected seconds"),
        ("camera,offset_s\ncam01,nan\n", "offset_s: expected seconds"),
        ("camera\ncam01\n", "expected the columns camera, offset_s"),
    ],
)
def test_bad_tables_of_offsets(tmp_path, text, expected):
    from fourdistill.errors import InputError

    scene = write_dynerf(tmp_path / "kick", num_cameras=2, num_frames=2)
    (scene / "sync.csv").write_text(text)
    with pytest.raises(InputError, match=expected) as caught:
        read_source(SourceFolder(tmp_path, "dynerf"))
    assert "sync.csv" in str(caught.value)
