"""The stage `reconstruct` on the ball scene."""

import hashlib
import json
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ball_scene import DISTANCE, SIZE, TIMES, ball_scene, trace, write_ball
from grid_scenes import write_frames
from PIL import Image
from stage_settings import changed, settings_of
from touches import count_touches, kill

from fourdistill.geometry.scene_frame import fit_scene_frame, spherical
from fourdistill.storage.store import open_set
from fourdistill.tables import FRAMES, TEACHER_FRAMES, read_table, to_matrices
from fourdistill.teacher.gate import psnr
from fourdistill.teacher.reconstruct import reconstruct
from fourdistill.teacher.reconstruction import load_reconstruction

SCENE = ball_scene()
FLOOR = float(-SCENE.frame.center[1] / SCENE.frame.scale)
SETTINGS = settings_of("reconstruct", enabled=True, num_cameras=2, floor=FLOOR, jobs=1)
SHORT = changed(SETTINGS, fit={"passes": 4, "checkpoint_passes": 2}, gate={"least_box": 10.0, "least_gain": -10.0})
OUTPUTS = ("teacher", "teacher.parquet", "reports")


def run(folder, settings=SHORT, seed=0, out=None):
    return reconstruct(
        folder / "frames",
        folder / "frames.parquet",
        folder / "scenes.parquet",
        out or folder / "teacher",
        folder / "teacher.parquet",
        folder / "reports",
        settings,
        seed=seed,
    )


def digests(folder):
    files = [file for name in OUTPUTS for file in [folder / name, *sorted((folder / name).rglob("*"))]]
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.is_file()}


def taught(folder):
    return read_table(folder / "teacher.parquet", TEACHER_FRAMES)


def write_one(folder, **options):
    """A folder with the ball's frames."""
    write_frames(folder / "frames.parquet", write_ball(folder, **options))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The frames; read only."""
    return write_one(tmp_path_factory.mktemp("ball"))


def linked(data, folder):
    """The same frames in another folder."""
    for name in ("frames", "frames.parquet", "scenes.parquet"):
        (folder / name).symlink_to(data / name)
    return folder


@pytest.fixture(scope="module")
def short(data, tmp_path_factory):
    """A run with few passes."""
    folder = linked(data, tmp_path_factory.mktemp("short"))
    run(folder)
    return folder


def test_frames_of_new_cameras_at_the_instants_of_the_real_ones(short):
    rows = taught(short).to_pylist()
    assert [(row["camera"], row["frame_index"]) for row in rows] == [
        (f"teacher{camera:02d}", index) for camera in range(2) for index in range(len(TIMES))
    ]
    for row in rows:
        assert row["path"] == f"ball/{row['camera']}/{row['frame_index']:06d}.jpg"
        assert Image.open(short / "teacher" / row["path"]).size == (SIZE, SIZE) == (row["width"], row["height"])
        assert row["time"] == pytest.approx(TIMES[row["frame_index"]])
        assert (row["scene"], row["caption"], row["split"], row["origin"]) == ("ball", "a ball", "train", "teacher")
        assert 0 < row["confidence"] < 1
    frame: Any = fit_scene_frame(to_matrices(read_table(short / "frames.parquet", FRAMES)["c2w"], (4, 4)))
    place = spherical(frame, to_matrices(taught(short)["c2w"], (4, 4)))
    real = spherical(frame, to_matrices(read_table(short / "frames.parquet", FRAMES)["c2w"], (4, 4)))
    np.testing.assert_allclose(place[:, 1:], np.broadcast_to(real[0, 1:], (len(place), 2)), atol=1e-6)
    assert np.abs(place[:, None, 0] - real[:, 0]).min() > 0.01  # between the real ones


def test_a_new_camera_shows_what_would_be_seen_from_there(data, tmp_path):
    folder = linked(data, tmp_path)
    report = run(folder, changed(SETTINGS, fit={"passes": 40}, gate={"least_box": 15.0}))
    assert report["teaches"] == 1, report
    for row in taught(folder).to_pylist():
        truth = trace(np.reshape(row["c2w"], (4, 4)), row["time"])
        image = np.asarray(Image.open(folder / "teacher" / row["path"]), np.float32) / 255
        assert psnr(image - truth) > 20, row["path"]
        assert np.linalg.norm(np.reshape(row["c2w"], (4, 4))[:3, 3] - [0, 0.5, 0]) == pytest.approx(DISTANCE, rel=0.01)


def test_the_reconstruction_is_kept_and_renders_the_same_frames(short):
    teacher = load_reconstruction(short / "reports" / "ball.model.safetensors")
    for row in taught(short).to_pylist():
        again = teacher.render(np.reshape(row["c2w"], (4, 4)), np.reshape(row["K"], (3, 3)), row["time"]).image
        image = np.asarray(Image.open(short / "teacher" / row["path"]), np.float32) / 255
        assert psnr(image - again) > 35, row["path"]  # JPEG


def test_the_report_has_scores_a_sheet_and_a_film(short):
    assert sorted(path.name for path in (short / "reports").iterdir()) == [
        "ball.film.gif", "ball.model.safetensors", "ball.sheet.png", "scores.json",
    ]  # fmt: skip
    report = json.loads((short / "reports" / "scores.json").read_text())
    assert (report["teaches"], report["refused"], report["failed"], report["frames"]) == (1, 0, 0, 2 * len(TIMES))
    (scene,) = report["scenes"]
    assert scene["held_out"] == "cam0" and scene["teacher"]["box"] > 10
    with Image.open(short / "reports" / "ball.film.gif") as film:
        assert getattr(film, "n_frames", 1) == len(TIMES) and film.size[0] == 3 * SIZE


def test_off_it_reads_nothing_and_writes_empty_outputs(tmp_path):
    report = run(tmp_path, replace(SHORT, enabled=False))
    assert not report["enabled"] and list((tmp_path / "teacher").iterdir()) == []
    assert taught(tmp_path).num_rows == 0


def test_held_out_frames_are_not_seen(data, short, tmp_path):
    """Frames of other splits change nothing, not even when they are broken."""
    rows = read_table(data / "frames.parquet", FRAMES).to_pylist()
    others = [row | {"camera": "cam9", "path": "none.jpg", "split": "test"} for row in rows[: len(TIMES)]]
    (tmp_path / "frames").symlink_to(data / "frames")
    write_frames(tmp_path / "frames.parquet", rows + others)
    run(tmp_path)
    assert {k: v for k, v in digests(tmp_path).items() if k.endswith(".jpg")} == {
        k: v for k, v in digests(short).items() if k.endswith(".jpg")
    }


def test_a_scene_of_test_frames_is_left_alone(tmp_path):
    report = run(write_one(tmp_path, split="test"))
    assert report["scenes"] == [] and taught(tmp_path).num_rows == 0


def test_few_cameras_are_refused_and_bad_scenes_skipped_with_the_reason(data, tmp_path):
    rows = write_ball(tmp_path, "few", cameras=[0, 2, 4]) + write_ball(tmp_path, "torn", cameras=range(4))
    rows += [row | {"c2w": None} for row in write_ball(tmp_path, "unposed", cameras=range(4))]
    (tmp_path / "frames" / "torn" / "cam1" / "000002.jpg").write_bytes(b"no picture")
    report = run(write_frames(tmp_path / "frames.parquet", rows).parent)
    assert (report["teaches"], report["refused"], report["failed"]) == (0, 1, 2)
    few, torn, unposed = report["scenes"]
    assert few["outcome"] == "refused" and few["reason"] == "3 cameras, below 4"
    assert torn["outcome"] == "failed" and "torn/cam1/000002.jpg" in torn["reason"]
    assert unposed["outcome"] == "failed" and "c2w" in unposed["reason"]
    assert taught(tmp_path).num_rows == 0


def test_a_scene_below_the_bound_does_not_teach_but_is_shown(data, tmp_path):
    report = run(linked(data, tmp_path), changed(SHORT, gate={"least_box": 60.0}))
    (scene,) = report["scenes"]
    assert scene["outcome"] == "refused" and "below 60.0" in scene["reason"]
    assert (tmp_path / "reports" / "ball.sheet.png").exists() and list((tmp_path / "teacher").iterdir()) == []


def test_a_taken_name_is_refused(data, tmp_path):
    (tmp_path / "frames").symlink_to(data / "frames")
    rows = read_table(data / "frames.parquet", FRAMES).to_pylist()
    rows = [row | {"camera": row["camera"].replace("cam5", "teacher01")} for row in rows]
    report = run(write_frames(tmp_path / "frames.parquet", rows).parent)
    assert "teacher01" in report["scenes"][0]["reason"]


def test_killed_at_three_moments_it_gives_the_same_when_run_again(data, short, tmp_path):
    count = count_touches(tmp_path, run, linked(data, tmp_path))
    assert digests(tmp_path) == digests(short)
    for name in OUTPUTS:  # anew
        (tmp_path / name).rename(tmp_path / f"old_{name}")
    for moment in random.Random(0).sample(range(1, count), 3):
        kill(tmp_path, moment, run, tmp_path)
        assert not (tmp_path / "teacher.parquet").exists()
    run(tmp_path)
    assert digests(tmp_path) == digests(short)
    assert not list(tmp_path.glob(".*"))


def test_frames_may_go_to_an_address(data, short, tmp_path):
    run(linked(data, tmp_path), out="memory://bucket/teacher")
    store = open_set("memory://bucket/teacher", "reconstruct")
    for path in taught(tmp_path)["path"].to_pylist():
        assert store.read(path, "a frame") == (short / "teacher" / path).read_bytes()


def test_two_processes_write_the_same(data, short, tmp_path):
    rows = read_table(data / "frames.parquet", FRAMES).to_pylist()
    (tmp_path / "frames").symlink_to(data / "frames")
    twice = rows + [row | {"scene": "second"} for row in rows]  # with the same pictures
    write_frames(tmp_path / "frames.parquet", twice)
    report = run(tmp_path, replace(SHORT, jobs=2))
    assert report["teaches"] == 2
    both, one = taught(tmp_path), taught(short)
    assert both.filter(np.asarray(both["scene"]) == "ball").to_pylist() == one.to_pylist()
    names = [name for name in digests(short) if name.startswith("teacher/ball")]
    assert names and all(digests(tmp_path)[name] == digests(short)[name] for name in names)
