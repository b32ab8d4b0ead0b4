"""Non-geometric content of picture formats: times, cameras, splits, backgrounds, sizes."""

import json
import shutil
import subprocess
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from format_writers import (
    CENTRAL,
    GENERAL,
    LENS,
    NUM_INSTANTS,
    OPENGL,
    save,
    write_colmap_text,
    write_dnerf,
    write_json,
    write_nerfies,
    write_nerfstudio,
    write_realestate10k,
)
from PIL import Image
from stage_settings import frame_settings, pair_settings, settings_of

from fourdistill.frames.extract import extract_frames
from fourdistill.pairs.build import build_pairs
from fourdistill.scene import Camera, Pictures, Video
from fourdistill.sources.readers import SourceFolder, read_source
from fourdistill.tables import FRAMES, PAIRS, read_table
from fourdistill.video.probe import probe_video


def the_scene(folder, format_name, **options):
    (scene,) = read_source(SourceFolder(folder, format_name, **options))
    return scene


def pictures_of(film) -> Pictures:
    assert isinstance(film, Pictures)
    return film


def camera_of(film, number=0) -> Camera:
    camera = pictures_of(film).pictures[number].camera
    assert camera is not None
    return camera


def extract(folder, source, **options: Any):
    """(rows, folder of frames, report)."""
    out = folder / "out"
    options = {"size": 32} | options
    extract_frames(read_source(source), out / "frames", out / "t", out / "s", out / "r.json", frame_settings(**options))
    return read_table(out / "t", FRAMES).to_pylist(), out / "frames", json.loads((out / "r.json").read_text())


def edit(path, change):
    """Change a JSON file in place."""
    value = json.loads(path.read_text())
    change(value)
    write_json(path, value)


# --- D-NeRF


def test_dnerf_files_are_the_split_and_no_camera_is_in_two_places(tmp_path):
    write_dnerf(tmp_path / "kick", CENTRAL)
    scene = the_scene(tmp_path, "dnerf")
    train, val, test = map(pictures_of, scene.videos)
    assert [picture.split for picture in train.pictures] == ["train"] * 4
    assert [(p.split, p.index, p.timestamp_s) for film in (val, test) for p in film.pictures] == [
        ("val", 0, 0.0),
        ("test", 0, 0.0),
    ]
    np.testing.assert_allclose([picture.timestamp_s for picture in train.pictures], [0, 1 / 3, 2 / 3, 1])
    timed = pictures_of(the_scene(tmp_path, "dnerf", duration_s=6.0).videos[0])
    np.testing.assert_allclose([picture.timestamp_s for picture in timed.pictures], [0, 2, 4, 6])


def test_dnerf_without_times_counts_frames(tmp_path):
    write_dnerf(tmp_path / "kick", CENTRAL)
    for split in ("val", "test"):
        (tmp_path / "kick" / f"transforms_{split}.json").unlink()
    edit(tmp_path / "kick" / "transforms_train.json", lambda value: [f.pop("time") for f in value["frames"]])
    (film,) = the_scene(tmp_path, "dnerf").videos
    np.testing.assert_allclose([p.timestamp_s for p in pictures_of(film).pictures], [0, 1 / 3, 2 / 3, 1])


def test_dnerf_with_several_cameras_at_each_time(tmp_path):
    """Frames of static cameras in one folder and one file are separated by camera."""
    frames = []
    for camera, pose in enumerate(CENTRAL.c2w):
        for instant in range(3):
            name = f"train/r_{len(frames):03d}"
            save(tmp_path / "kick" / f"{name}.png", CENTRAL.picture(camera, instant))
            frames.append({"file_path": name, "time": instant / 2, "transform_matrix": (pose @ OPENGL).tolist()})
    write_json(tmp_path / "kick" / "transforms_train.json", {"camera_angle_x": 1.0, "frames": frames})
    scene = the_scene(tmp_path, "dnerf")
    assert [film.camera_id for film in scene.videos] == [f"cam{number:02d}" for number in range(4)]
    for number, film in enumerate(scene.videos):
        assert [picture.index for picture in pictures_of(film).pictures] == [0, 1, 2]
        for picture in pictures_of(film).pictures:
            assert picture.path.stem == f"r_{3 * number + picture.index:03d}"


def test_a_picture_that_two_files_name_is_held_out(tmp_path):
    write_dnerf(tmp_path / "kick", CENTRAL)
    train = json.loads((tmp_path / "kick" / "transforms_train.json").read_text())
    write_json(tmp_path / "kick" / "transforms_val.json", train | {"frames": train["frames"][1:3]})
    (tmp_path / "kick" / "transforms_test.json").unlink()
    (film,) = the_scene(tmp_path, "dnerf").videos
    assert [picture.split for picture in pictures_of(film).pictures] == ["train", "val", "val", "train"]


def test_transparent_pixels_show_the_background(tmp_path):
    write_dnerf(tmp_path / "raw" / "kick", CENTRAL)
    (tmp_path / "raw" / "kick" / "transforms_test.json").unlink()
    for background, level in (("white", 255), ("#404040", 64), ("black", 0)):
        rows, frames, _ = extract(tmp_path, SourceFolder(tmp_path / "raw", "dnerf", background=background), size=80)
        empty = next(row["path"] for row in rows if row["split"] == "val")
        assert abs(np.asarray(Image.open(frames / empty)).astype(int) - level).max() <= 2


# --- nerfstudio


def test_nerfstudio_intrinsics_of_a_frame_come_before_those_of_the_file(tmp_path):
    write_nerfstudio(tmp_path / "room", GENERAL, per_frame=True)
    edit(tmp_path / "room" / "transforms.json", lambda value: value.update(fl_x=1.0, fl_y=2.0, cx=0.0, cy=0.0, k1=0.5))
    (film,) = the_scene(tmp_path, "nerfstudio").videos
    assert [picture.path.name for picture in pictures_of(film).pictures] == [f"frame_{n:05d}.png" for n in range(1, 5)]
    for number in range(4):
        np.testing.assert_allclose(camera_of(film, number).K, GENERAL.K)
        assert camera_of(film, number).distortion is None


def test_nerfstudio_folders_are_cameras_and_lists_are_the_split(tmp_path):
    frames = []
    for camera, pose in enumerate(GENERAL.c2w):
        for instant in range(3):
            name = f"./images/phone{camera}/{instant + 9}.png"  # 9, 10, 11: not in alphabetical order
            save(tmp_path / "room" / name, GENERAL.picture(camera, instant))
            frames.append({"file_path": name, "transform_matrix": (pose @ OPENGL).tolist()})
    value = {"camera_angle_x": 1.0, "frames": frames, "test_filenames": ["images/phone3/9.png"]}
    write_json(tmp_path / "room" / "transforms.json", value)
    scene = the_scene(tmp_path, "nerfstudio")
    assert [film.camera_id for film in scene.videos] == [f"phone{number}" for number in range(4)]
    for film in scene.videos:
        assert [picture.path.stem for picture in pictures_of(film).pictures] == ["9", "10", "11"]
        assert [picture.index for picture in pictures_of(film).pictures] == [0, 1, 2]
    assert [picture.split for picture in pictures_of(scene.videos[3]).pictures] == ["test", None, None]
    focal = 56 / np.tan(0.5)
    np.testing.assert_allclose(camera_of(scene.videos[0]).K, [[focal, 0, 56], [0, focal, 40], [0, 0, 1]])


def test_nerfstudio_distortion_params(tmp_path):
    write_nerfstudio(tmp_path / "room", GENERAL)
    k1, k2, p1, p2 = LENS
    path = tmp_path / "room" / "transforms.json"
    edit(path, lambda value: value.update(distortion_params=[k1, k2, 0.01, 0.0, p1, p2]))
    (film,) = the_scene(tmp_path, "nerfstudio").videos
    assert camera_of(film).distortion == (k1, k2, p1, p2, 0.01)


def test_gaps_in_seconds_of_a_capture_without_a_clock(tmp_path):
    """Uneven times over four seconds: `gap_s` follows them, not the frame numbers."""
    write_nerfstudio(tmp_path / "raw" / "room", GENERAL)
    times = {"frame_00001.png": 10, "frame_00002.png": 11, "frame_00003.png": 17, "frame_00004.png": 18}

    def set_times(value):
        for frame in value["frames"]:
            frame["time"] = times[frame["file_path"].rsplit("/", 1)[-1]]

    edit(tmp_path / "raw" / "room" / "transforms.json", set_times)
    rows, _, _ = extract(tmp_path, SourceFolder(tmp_path / "raw", "nerfstudio", duration_s=4.0))
    np.testing.assert_allclose([row["timestamp_s"] for row in rows], [0, 0.5, 3.5, 4])
    np.testing.assert_allclose([row["time"] for row in rows], [0, 0.125, 0.875, 1])
    out = tmp_path / "out"
    build_pairs(
        out / "t",
        out / "s",
        out / "p",
        out / "p.json",
        out / "g.csv",
        pair_settings({"train": 100}, {"joint": 1}),
        settings_of("displacement"),
        seed=0,
    )
    seconds = [0, 0.5, 3.5, 4]
    for pair in read_table(out / "p", PAIRS).to_pylist():
        gap_s = seconds[pair["source_frame"]] - seconds[pair["target_frame"]]
        assert pair["gap_s"] == pytest.approx(gap_s)
        assert pair["normalized_gap"] == pytest.approx(gap_s / 4)


# --- Nerfies


def test_nerfies_cameras_and_split(tmp_path):
    write_nerfies(tmp_path / "broom", GENERAL)
    scene = the_scene(tmp_path, "nerfies")
    assert [film.camera_id for film in scene.videos] == ["cam00", "cam01", "cam02", "cam03"]
    splits = [{picture.split for picture in pictures_of(film).pictures} for film in scene.videos]
    assert splits == [{"train"}, {"train"}, {"train"}, {"val"}]


def test_nerfies_pictures_of_half_the_size(tmp_path):
    """Intrinsics are those of 1x, whatever the size of the pictures."""
    write_nerfies(tmp_path / "raw" / "broom", GENERAL, shrink=2)
    rows, _, _ = extract(tmp_path, SourceFolder(tmp_path / "raw", "nerfies"), size=40)
    expected = np.diag([0.5, 0.5, 1]) @ (GENERAL.K - np.array([[0, 0, 16], [0, 0, 0], [0, 0, 0]]))
    np.testing.assert_allclose(np.reshape(rows[0]["K"], (3, 3)), expected)


def test_nerfies_may_skip_instants(tmp_path):
    """Frames that COLMAP could not register are missing: the others keep their instants; the report counts them."""
    write_nerfies(tmp_path / "raw" / "broom", GENERAL)
    edit(tmp_path / "raw" / "broom" / "dataset.json", lambda value: value["ids"].remove("cam1_000001"))
    rows, _, report = extract(tmp_path, SourceFolder(tmp_path / "raw", "nerfies"))
    assert [row["frame_index"] for row in rows if row["camera"] == "cam01"] == [0, 2, 3]
    assert report["missing_frames"] == [{"scene": "broom", "camera": "cam01", "instants": 1}]


# --- COLMAP, RealEstate10K


def test_one_folder_of_colmap_pictures_is_one_camera_that_moves(tmp_path):
    write_colmap_text(tmp_path / "room", GENERAL)
    images = tmp_path / "room" / "sparse" / "0" / "images.txt"
    text = images.read_text()
    for camera in range(4):
        for instant in range(NUM_INSTANTS):
            name = f"cam{camera}/{instant:06d}.png"
            text = text.replace(name, f"{camera * NUM_INSTANTS + instant}.png")
            (tmp_path / "room" / "images" / name).rename(
                tmp_path / "room" / "images" / f"{camera * NUM_INSTANTS + instant}.png"
            )
    images.write_text(text)
    (film,) = the_scene(tmp_path, "colmap").videos
    assert film.camera_id == "cam00"
    assert [picture.path.stem for picture in pictures_of(film).pictures] == [str(number) for number in range(16)]
    np.testing.assert_allclose(camera_of(film, 5).c2w, GENERAL.c2w[1], atol=1e-9)


def test_realestate10k_frames_in_files(tmp_path):
    write_realestate10k(tmp_path / "test" / "scene", GENERAL)
    (tmp_path / "test" / "scene.mp4").unlink()
    for index in range(4):
        save(tmp_path / "test" / "scene" / f"{index * 125000}.png", GENERAL.picture(index, index))
    scene = the_scene(tmp_path, "realestate10k")
    assert (scene.name, scene.split, scene.has_clock) == ("scene", "test", True)
    (film,) = scene.videos
    assert [picture.timestamp_s for picture in pictures_of(film).pictures] == [0, 0.125, 0.25, 0.375]
    for number, pose in enumerate(GENERAL.c2w):
        np.testing.assert_allclose(camera_of(film, number).c2w, pose, atol=1e-9)
        np.testing.assert_allclose(camera_of(film, number).K, GENERAL.K)


def test_realestate10k_poses_of_some_frames_alone(tmp_path):
    """A pose belongs to the frame of its time; frames outside the clip stay unposed."""
    write_realestate10k(tmp_path / "raw" / "scene", GENERAL)
    path = tmp_path / "raw" / "scene.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[2], lines[4]]) + "\n")
    rows, _, _ = extract(tmp_path, SourceFolder(tmp_path / "raw", "realestate10k"))
    assert [row["c2w"] is not None for row in rows] == [False, True, False, True]
    np.testing.assert_allclose(np.reshape(rows[3]["c2w"], (4, 4)), GENERAL.c2w[3], atol=1e-9)


@pytest.mark.parametrize("arguments", [("-display_rotation:v:0", "90"), ("-aspect", "8:3")])
def test_realestate10k_lenses_are_of_the_film_as_it_is_seen(tmp_path, arguments):
    """After rotation to upright, or conversion to square pixels."""
    write_realestate10k(tmp_path / "stored" / "scene", GENERAL)
    (tmp_path / "raw").mkdir()
    shutil.copy(tmp_path / "stored" / "scene.txt", tmp_path / "raw")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error"]
    copy = ["-i", tmp_path / "stored" / "scene.mp4", "-c", "copy", tmp_path / "raw" / "scene.mp4"]
    before = "rotation" in arguments[0]
    subprocess.run([*command, *arguments, *copy] if before else [*command, *copy[:4], *arguments, copy[4]], check=True)
    info = probe_video(tmp_path / "raw" / "scene.mp4")
    size = np.array([info.width, info.height])
    assert tuple(size) != GENERAL.size
    film = the_scene(tmp_path / "raw", "realestate10k").videos[0]
    assert isinstance(film, Video)
    camera = film.track[0][1]
    assert camera.size == tuple(size)
    np.testing.assert_allclose(camera.K[:2, 2] / size, GENERAL.K[:2, 2] / GENERAL.size)
    rows, _, _ = extract(tmp_path, SourceFolder(tmp_path / "raw", "realestate10k"))
    assert len(rows) == 4 and all(row["c2w"] is not None for row in rows)


# --- UCF-101


def test_ucf101(tmp_path):
    for name in ("ApplyEyeMakeup_g08_c01", "ApplyEyeMakeup_g01_c02", "YoYo_g25_c03"):
        action = name.split("_")[0]
        (tmp_path / "UCF-101" / action).mkdir(parents=True, exist_ok=True)
        (tmp_path / "UCF-101" / action / f"v_{name}.avi").write_bytes(b"never opened")
    scenes = read_source(SourceFolder(tmp_path, "ucf101"))
    assert [(scene.name, scene.split) for scene in scenes] == [
        ("ApplyEyeMakeup_g01_c02", None),
        ("ApplyEyeMakeup_g08_c01", None),
        ("YoYo_g25_c03", None),
    ]
    assert scenes[0].caption == "a person doing apply eye makeup"
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "trainlist01.txt").write_text("ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\n")
    (lists / "testlist01.txt").write_text("ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c02.avi\r\n")
    scenes = read_source(SourceFolder(tmp_path, "ucf101"))
    assert {scene.name: scene.split for scene in scenes} == {
        "ApplyEyeMakeup_g08_c01": "train",
        "ApplyEyeMakeup_g01_c02": "test",
    }
