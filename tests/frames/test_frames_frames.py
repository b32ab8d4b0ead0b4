import json
import subprocess
import sys
from fractions import Fraction
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image
from stage_settings import frame_settings, split_rule
from tiny_scenes import (
    SIZE,
    gray_film,
    poses_bounds,
    qualisys_xml,
    ring_cameras,
    truncate,
    write_dynerf,
    write_film,
)

from fourdistill.errors import InputError
from fourdistill.frames.extract import extract_frames
from fourdistill.geometry.camera import intrinsics
from fourdistill.sources.readers import SourceFolder, read_source
from fourdistill.tables import FRAMES, SCENES, VERSION_KEY, read_table, to_matrices
from fourdistill.video.probe import VideoError, probe_video


def extract(tmp_path, source, format_name="dynerf", out="out", **options: Any):
    """Run the stage's function on one source; returns (table, folder)."""
    folder = tmp_path / out
    options = {"size": SIZE} | options
    extract_frames(
        read_source(SourceFolder(source, format_name)),
        folder / "frames",
        folder / "frames.parquet",
        folder / "scenes.parquet",
        folder / "frames.json",
        frame_settings(**options),
    )
    return read_table(folder / "frames.parquet", FRAMES), folder


def image(folder, path):
    return np.asarray(Image.open(folder / "frames" / path)).astype(float)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two small DyNeRF scenes; frame i of camera c has gray level 10 + 20 i + c. Read only."""
    folder = tmp_path_factory.mktemp("source")
    for seed, name in enumerate(("kick", "walk")):
        write_dynerf(folder / name, num_cameras=3, num_frames=6, seed=seed)
    return folder


def test_frames_and_table(tmp_path, source):
    split = split_rule(test_scenes=["walk"], test_cameras=["cam01"], test_times=[(0.35, 0.45)])
    table, folder = extract(tmp_path, source, split=split)
    assert table.schema.metadata[VERSION_KEY] == b"1"  # version of the layout, not of the release
    assert all(field.metadata[b"description"] for field in table.schema)
    assert table.num_rows == 2 * 3 * 6
    rows = table.to_pylist()
    assert [(row["scene"], row["camera"], row["frame_index"]) for row in rows] == [
        (scene, camera, index)
        for scene in ("kick", "walk")
        for camera in ("cam00", "cam01", "cam02")
        for index in range(6)
    ]
    for row in rows:
        assert row["path"] == f"{row['scene']}/{row['camera']}/{row['frame_index']:06d}.jpg"
        pixels = image(folder, row["path"])
        assert pixels.shape == (SIZE, SIZE, 3)
        assert abs(pixels.mean() - (10 + 20 * row["frame_index"] + int(row["camera"][3:]))) < 2  # from the right frame
        assert row["timestamp_s"] == row["frame_index"] / 8
        assert row["time"] == pytest.approx(row["frame_index"] / 5)
        assert (row["width"], row["height"], row["caption"]) == (SIZE, SIZE, "a gray wall")
        held_out = row["scene"] == "walk" or row["camera"] == "cam01" or row["frame_index"] == 2
        assert row["split"] == ("test" if held_out else "train")
    np.testing.assert_allclose(to_matrices(table["c2w"], (4, 4))[0], ring_cameras(3)[0], atol=1e-12)
    scenes = read_table(folder / "scenes.parquet", SCENES)
    assert scenes["scene"].to_pylist() == sorted(set(table["scene"].to_pylist()))
    np.testing.assert_allclose(scenes["scale"].to_numpy(), 3.0)
    np.testing.assert_allclose(scenes["duration_s"].to_numpy(), 5 / 8)
    files = sorted(path for path in (folder / "frames").rglob("*") if path.is_file())
    assert len(files) == table.num_rows
    report = json.loads((folder / "frames.json").read_text())
    assert report == {
        "scenes": 2,
        "videos": 6,
        "frames": 36,
        "split_names_not_found": [],
        "missing_frames": [],
        "notes": [],
        "bad": [],
        "left_out": [],
    }


def test_two_runs_give_the_same_bytes(tmp_path, source):
    """Also with another number of processes, and when overwriting an older, larger result."""
    (tmp_path / "again" / "frames" / "stale" / "cam00").mkdir(parents=True)
    (tmp_path / "again" / "frames" / "stale" / "cam00" / "000000.jpg").write_bytes(b"stale")
    _, first = extract(tmp_path, source, out="first", jobs=1)
    _, again = extract(tmp_path, source, out="again", jobs=2)
    files = [sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file()) for root in (first, again)]
    assert files[0] == files[1]
    for path in files[0]:
        assert (first / path).read_bytes() == (again / path).read_bytes(), path


def test_timestamps_come_from_the_container(tmp_path):
    times = [0.0, 0.04, 0.2, 0.24, 0.9]  # no constant frame rate
    write_film(tmp_path / "raw" / "uneven.mp4", gray_film([10, 60, 110, 160, 210]), times)
    table, folder = extract(tmp_path, tmp_path / "raw", "video")
    np.testing.assert_allclose(table["timestamp_s"].to_numpy(), times)
    np.testing.assert_allclose(table["time"].to_numpy(), np.array(times) / 0.9, rtol=1e-6)
    levels = [image(folder, path).mean() for path in table["path"].to_pylist()]
    np.testing.assert_allclose(levels, [10, 60, 110, 160, 210], atol=2)  # no frame dropped or repeated
    assert table["K"].null_count == table["c2w"].null_count == 5
    scenes = read_table(folder / "scenes.parquet", SCENES)
    assert scenes["center"].null_count == scenes["scale"].null_count == 1
    np.testing.assert_allclose(scenes["duration_s"].to_numpy(), 0.9)


def test_time_is_that_of_the_scene_not_of_the_camera(tmp_path):
    for camera, times in enumerate(([0, 1], [0.5, 2])):
        write_film(tmp_path / "raw" / f"cam{camera:02d}.mp4", gray_film([50, 100]), times)
    np.save(tmp_path / "raw" / "poses_bounds.npy", poses_bounds(ring_cameras(2, elevation=0.5)))
    table, _ = extract(tmp_path, tmp_path / "raw")
    np.testing.assert_allclose(table["time"].to_numpy(), [0, 0.5, 0.25, 1])


def test_one_frame_is_at_time_zero(tmp_path):
    write_film(tmp_path / "raw" / "still.mp4", gray_film([50]))
    table, _ = extract(tmp_path, tmp_path / "raw", "video")
    assert table["time"].to_pylist() == [0.0]


@pytest.mark.parametrize("size", [(64, 48), (48, 64), (62, 34)])
def test_centre_crop_and_its_intrinsics(tmp_path, size):
    """A dot on a known ray is found where the K of the frames projects that ray."""
    width, height = size
    side = min(size)
    x, y = width // 2 + 5, height // 2 - 4  # pixel, inside the central square
    picture = np.zeros((height, width, 3), np.uint8)
    picture[y - 1 : y + 2, x - 1 : x + 2] = 255
    write_film(tmp_path / "raw" / "cam00.mp4", np.stack([picture] * 2))
    np.save(tmp_path / "raw" / "poses_bounds.npy", poses_bounds(ring_cameras(1), size, 50.0))
    table, folder = extract(tmp_path, tmp_path / "raw", size=2 * side)
    K = to_matrices(table["K"], (3, 3))[0]
    ray = np.linalg.inv(intrinsics(50, 50, width / 2, height / 2)) @ [x + 0.5, y + 0.5, 1]
    weight = image(folder, table["path"][0].as_py()).mean(-1)
    weight = np.where(weight > 40, weight, 0)
    rows, columns = np.indices(weight.shape) + 0.5
    found = [(columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum()]
    np.testing.assert_allclose(found, (K @ ray)[:2], atol=0.15)


def test_a_lens_that_distorts_is_undone(tmp_path):
    """Dots seen through a strongly distorting lens are found where the ideal K projects their rays."""
    from fourdistill.geometry.distortion import distort

    lens, size, focal = (-0.25, 0.05, 0.004, -0.003), (160, 120), 120.0
    rays = np.array([[0.3, 0.3], [-0.3, 0.28], [0.02, -0.32], [-0.35, -0.3], [0.25, -0.1]])
    centers = distort(rays, lens) * focal + np.array(size) / 2
    rows, columns = np.indices((size[1], size[0])) + 0.5
    dots = sum(np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 4) for x, y in centers)
    picture = np.repeat((250 * np.asarray(dots)).astype(np.uint8)[..., None], 3, axis=-1)
    scene = tmp_path / "raw" / "gym"
    (scene / "calibration").mkdir(parents=True)
    (scene / "calibration" / "Calib.qca.txt").write_text(qualisys_xml(ring_cameras(2), size, focal, lens))
    for name in ("cam01", "cam02"):
        write_film(scene / "videos" / f"{name}.mp4", np.stack([picture] * 3))
    table, folder = extract(tmp_path, tmp_path / "raw", "qualisys", size=120)
    assert table.num_rows == 6
    K = to_matrices(table["K"], (3, 3))[0]
    np.testing.assert_allclose(K, intrinsics(focal, focal, 60, 60))
    pixels = image(folder, table["path"][1].as_py()).mean(-1)
    rows, columns = np.indices(pixels.shape) + 0.5
    for ray in rays:
        expected = K[:2, :2] @ ray + K[:2, 2]
        near = np.where(np.hypot(columns - expected[0], rows - expected[1]) < 6, pixels, 0)
        found = [(columns * near).sum() / near.sum(), (rows * near).sum() / near.sum()]
        np.testing.assert_allclose(found, expected, atol=0.15)
    assert np.abs(distort(rays, lens) - rays).max() * focal > 2  # the distortion exceeds the tolerance


def test_a_letterboxed_copy_of_the_calibrated_video_is_understood(tmp_path):
    scene = tmp_path / "raw" / "gym"
    (scene / "calibration").mkdir(parents=True)
    (scene / "calibration" / "Calib.qca.txt").write_text(qualisys_xml(ring_cameras(2), (128, 200), 150))
    write_film(scene / "videos" / "cam01.mp4", gray_film([50], (126, 200)))
    write_film(scene / "videos" / "cam02.mp4", gray_film([50], (128, 200)))
    table, _ = extract(tmp_path, tmp_path / "raw", "qualisys", size=64)
    first, second = to_matrices(table["K"], (3, 3))
    # Both are cropped to the calibrated width; the crop of 126 rows out of 200 starts at row 36, not 37.
    np.testing.assert_allclose(first, intrinsics(75, 75, 32, 32 + 64 / 126))
    np.testing.assert_allclose(second, intrinsics(75, 75, 32, 32))


def test_a_video_of_another_shape_is_bad(tmp_path):
    write_film(tmp_path / "raw" / "cam00.mp4", gray_film([50], (64, 32)))
    np.save(tmp_path / "raw" / "poses_bounds.npy", poses_bounds(ring_cameras(1), (32, 32)))
    with pytest.raises(InputError, match=r"cam00\.mp4: expected the calibrated shape 32x32, found 64x32"):
        extract(tmp_path, tmp_path / "raw")


def test_max_frames(tmp_path, source):
    table, folder = extract(tmp_path, source, max_frames=4)
    assert table.num_rows == 2 * 3 * 4
    assert table["time"].to_numpy().max() == 1.0
    assert len(list((folder / "frames").rglob("*.jpg"))) == table.num_rows


def test_colours_survive(tmp_path):
    colors = np.array([[200, 40, 60], [40, 180, 80], [50, 60, 210]], np.uint8)
    write_film(tmp_path / "raw" / "colors.mp4", np.broadcast_to(colors[:, None, None], (3, SIZE, SIZE, 3)).copy())
    table, folder = extract(tmp_path, tmp_path / "raw", "video")
    means = [image(folder, path).mean((0, 1)) for path in table["path"].to_pylist()]
    np.testing.assert_allclose(means, colors, atol=5)


def test_anamorphic_video_gets_square_pixels(tmp_path):
    path = tmp_path / "raw" / "wide.mkv"
    path.parent.mkdir()
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    picture[:, 8:24] = 255  # the central half of the width: all that remains of 2:1 pixels after a square crop
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    info = probe_video(path)
    assert (info.width, info.height, info.picture.pixel_aspect) == (2 * SIZE, SIZE, 2)
    table, folder = extract(tmp_path, path.parent, "video")
    assert image(folder, table["path"][0].as_py())[:, 2:-2].min() > 230


def test_rotated_video_is_turned_upright(tmp_path):
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :32] = 255  # the left half is bright
    write_film(tmp_path / "flat.mp4", np.stack([picture] * 2))
    (tmp_path / "raw").mkdir()
    turn = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-display_rotation", "90"]  # counter-clockwise
    subprocess.run([*turn, "-i", tmp_path / "flat.mp4", "-c", "copy", tmp_path / "raw" / "turned.mp4"], check=True)
    info = probe_video(tmp_path / "raw" / "turned.mp4")
    assert (info.width, info.height) == (48, 64)
    table, folder = extract(tmp_path, tmp_path / "raw", "video")
    pixels = image(folder, table["path"][0].as_py())
    assert pixels[: SIZE // 2 - 2].max() < 30 and pixels[SIZE // 2 + 2 :].min() > 220  # left became the bottom


def test_a_truncated_video_among_many_is_skipped_and_listed(tmp_path):
    scene = write_dynerf(tmp_path / "raw" / "kick", num_cameras=4, num_frames=6)
    truncate(scene / "cam02.mp4")
    table, folder = extract(tmp_path, tmp_path / "raw", max_bad_fraction=0.25)
    assert set(table["camera"].to_pylist()) == {"cam00", "cam01", "cam03"}
    np.testing.assert_allclose(to_matrices(table["c2w"], (4, 4))[-1], ring_cameras(4)[3], atol=1e-12)  # poses stay put
    (bad,) = json.loads((folder / "frames.json").read_text())["bad"]
    assert (bad["scene"], bad["camera"]) == ("kick", "cam02")
    assert bad["path"].endswith("cam02.mp4") and bad["reason"]
    assert not (folder / "frames" / "kick" / "cam02").exists()


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not a video at all" * 100),
        lambda path: path.write_bytes(path.read_bytes()[:-400] + bytes(400)),  # complete, but corrupt inside
    ],
)
def test_bad_videos_fail_the_stage_with_one_line_and_nothing_half_written(tmp_path, damage):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (6, SIZE, SIZE, 3), dtype=np.uint8)
    write_film(tmp_path / "raw" / "noise.mp4", noise)
    damage(tmp_path / "raw" / "noise.mp4")
    with pytest.raises(InputError, match=r"noise\.mp4: .*1 of 1 files are bad") as caught:
        extract(tmp_path, tmp_path / "raw", "video")
    assert "\n" not in str(caught.value)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["frames.json"]


def test_a_failed_run_leaves_the_last_good_one(tmp_path):
    scene = write_dynerf(tmp_path / "raw" / "kick", num_cameras=2, num_frames=3)
    table, folder = extract(tmp_path, tmp_path / "raw")
    truncate(scene / "cam00.mp4")
    with pytest.raises(InputError):
        extract(tmp_path, tmp_path / "raw")
    assert read_table(folder / "frames.parquet", FRAMES).equals(table)
    assert len(list((folder / "frames").rglob("*.jpg"))) == table.num_rows


def test_truncated_matroska_is_noticed(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "noise.mkv"
    write_film(path, rng.integers(0, 256, (8, SIZE, SIZE, 3), dtype=np.uint8), [float(i) for i in range(8)])
    assert len(probe_video(path).timestamps_s) == 8
    truncate(path, 0.5)
    with pytest.raises(VideoError, match="truncated"):
        probe_video(path)


def test_foreign_files_in_the_frames_folder_are_not_deleted(tmp_path, source):
    thesis = tmp_path / "out" / "frames" / "thesis.tex"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("five years of work")
    with pytest.raises(InputError, match=r"thesis\.tex: expected only \.jpg"):
        extract(tmp_path, source)
    assert thesis.read_text() == "five years of work"


def test_an_ffmpeg_that_is_not_there(tmp_path, source):
    with pytest.raises(InputError, match="ffmpeg: expected a program"):
        extract(tmp_path, source, ffmpeg="/nowhere/ffmpeg")


def test_ray_is_an_extra(tmp_path, source, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.util.joblib", None)  # as if not installed
    with pytest.raises(InputError, match=r"engine: ray: expected the extra fourdistill\[ray\]"):
        extract(tmp_path, source, engine="ray")


def test_unknown_names_in_the_split_are_reported(tmp_path, source):
    split = split_rule(val_scenes=["wlak"], test_cameras=["cam09"], held_out_in=["jump"])
    _, folder = extract(tmp_path, source, split=split)
    assert json.loads((folder / "frames.json").read_text())["split_names_not_found"] == ["jump", "wlak", "cam09"]


def test_cameras_and_times_are_held_out_in_the_named_scenes_alone():
    rule = split_rule(
        test_scenes=["a"], val_scenes=["b"], test_cameras=["cam1"], test_times=[(0.4, 0.6)], held_out_in=["c"]
    )
    time = np.array([0.0, 0.5])
    expected = {"a": ["test"] * 4, "b": ["val"] * 4, "c": ["train", "test", "test", "test"], "d": ["train"] * 4}
    for scene, splits in expected.items():
        assert [*rule.split(scene, "cam0", time), *rule.split(scene, "cam1", time)] == splits
