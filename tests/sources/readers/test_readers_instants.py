"""Which pictures share an instant: by time within half a frame, by equal names, by numbers, never by position."""

import json
import unicodedata
from functools import partial

import numpy as np
import pytest
from format_writers import GENERAL, OPENGL, save, write_colmap_text, write_json
from PIL import Image
from stage_settings import frame_settings, split_rule

from fourdistill.frames.extract import extract_frames
from fourdistill.scene import Pictures
from fourdistill.sources.inspect.facts import inspect_folder
from fourdistill.sources.readers import SourceFolder, read_source
from fourdistill.sources.readers.instants import instants_by_name, instants_by_time
from fourdistill.sources.readers.posed_pictures import name_folders
from fourdistill.tables import FRAMES, read_table


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"a": ["0", "1", "2", "3"], "b": ["0", "2", "3"]}, {"a": [0, 1, 2, 3], "b": [0, 2, 3]}),
        ({"a": ["1", "2"], "b": ["0001", "0002", "0010"]}, {"a": [0, 1], "b": [0, 1, 2]}),  # names of different widths
        ({"a": ["a_2", "a_10"], "b": ["b_10", "b_9"]}, {"a": [0, 2], "b": [2, 1]}),  # numbers, in numerical order
        ({"a": ["cam1_f3", "cam1_f4"], "b": ["cam2_f4"]}, {"a": [0, 1], "b": [1]}),  # not the camera's number
        ({"a": ["7_x1", "7_x2"], "b": ["8_x2", "8_x3"]}, {"a": [0, 1], "b": [1, 2]}),
        ({"a": ["s1_0", "s1_5", "s2_0"], "b": ["t1_5", "t2_0"]}, {"a": [0, 1, 2], "b": [1, 2]}),  # two varying numbers
        ({"a": ["left", "right"], "b": ["up", "down"]}, {"a": [1, 2], "b": [3, 0]}),  # nothing in common
        ({"a": ["x", "1"], "b": ["y", "2"]}, {"a": [2, 0], "b": [3, 1]}),
        ({"a": ["b", "a", "c"]}, {"a": [1, 0, 2]}),
    ],
)
def test_names(names, expected):
    assert instants_by_name(names) == expected


def test_names_that_nobody_could_pose_keep_their_instants():
    assert instants_by_name({"a": ["1", "3"]}, {"a": ["2"]}) == {"a": [0, 2]}
    assert instants_by_name({"a": ["1", "4"], "b": ["1", "4"]}, {"a": ["2"], "b": ["2", "3"]}) == {
        "a": [0, 3],
        "b": [0, 3],
    }


THIRDS = [0.0, 1 / 3, 2 / 3, 1.0]


@pytest.mark.parametrize(
    ("times", "cameras", "expected"),
    [
        ([0.1 + 0.2, 0.3, 0.0], None, [1, 1, 0]),
        ([*THIRDS, *np.array(THIRDS, np.float32).astype(float)], None, [0, 1, 2, 3] * 2),
        ([*THIRDS, *np.round(THIRDS, 4)], None, [0, 1, 2, 3] * 2),  # rounded for writing
        ([0.0, 0.01, 0.02, 1.0], None, [0, 1, 2, 3]),  # uneven times are not merged
        ([*THIRDS, 0.0, 0.35, 1.1], "aaaabbb", [0, 1, 2, 3, 0, 1, 3]),  # half a frame, as for videos
        ([*THIRDS, 0.16, 0.55], "aaaabb", [0, 1, 2, 3, 0, 2]),  # the nearest, not the first
        ([0.0, 0.5, 1.0, 1.5, 0.0, 1.0], "aaaabb", [0, 1, 2, 3, 0, 2]),  # one camera has half the rate
        ([5.0, 5.0], "ab", [0, 0]),
        ([1e9, 1e9 + 1, 1e9], None, [0, 1, 0]),
    ],
)
def test_times(times, cameras, expected):
    assert instants_by_time(times, None if cameras is None else list(cameras)) == expected


def test_many_times_are_all_their_own():
    times = (np.arange(50_000) / 49_999).tolist()
    assert instants_by_time(times) == list(range(50_000))


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["left", "right"], ["left", "right"]),
        (["images/left", "images/right"], ["left", "right"]),
        (["cam1/images", "cam2/images"], ["cam1", "cam2"]),
        (["day1/left", "day2/left"], ["day1", "day2"]),
        (["x/day1/left/raw", "x/day1/right/raw", "x/day2/left/raw"], ["day1_left", "day1_right", "day2_left"]),
        ([".", "other"], ["cam00", "other"]),
        (["a", "a/a"], ["cam00", "a"]),
        (["a_b/c", "a/b_c", "d/c"], ["cam00", "cam01", "cam02"]),
    ],
)
def test_names_of_cameras_by_their_folders(folders, expected):
    names = name_folders(folders)
    assert sorted(names.values()) == sorted(expected) and len(set(names.values())) == len(folders)


def drop(folder, *names):
    """Remove pictures from the model but not from disk, as if they could not be registered."""
    path = folder / "sparse" / "0" / "images.txt"
    lines = path.read_text().split("\n")
    for name in names:
        (index,) = (number for number, line in enumerate(lines) if line.endswith(name))
        del lines[index : index + 2]
    path.write_text("\n".join(lines))


def shown(folder, name, **options):
    """(camera, frame index) => the instant according to the frame's gray level; and the report."""
    out = folder / "out"
    scenes = read_source(SourceFolder(folder / "raw", name, **options))
    extract_frames(scenes, out / "f", out / "t", out / "s", out / "r.json", frame_settings(size=16))
    rows = read_table(out / "t", FRAMES).to_pylist()
    grays = {str(path): gray_of(out / "f" / path) for path in {row["path"] for row in rows}}
    found = {(row["camera"], row["frame_index"]): round((grays[row["path"]] - 10) / 15) for row in rows}
    return found, json.loads((out / "r.json").read_text())


def gray_of(path):
    return float(np.median(np.asarray(Image.open(path).convert("L"))))


@pytest.mark.parametrize("rename", [lambda camera, name: name, lambda camera, name: f"c{camera}_{int(name) + 7}"])
def test_pictures_that_colmap_did_not_register_shift_nobody(tmp_path, rename):
    """Missing: one in the middle of a camera, one at the start of another, and one of all cameras."""
    folder = tmp_path / "raw" / "stage"
    write_colmap_text(folder, GENERAL)
    images = folder / "sparse" / "0" / "images.txt"
    text = images.read_text()
    for path in sorted((folder / "images").rglob("*.png")):
        name = f"{path.parent.name}/{rename(path.parent.name[-1], path.stem)}.png"
        text = text.replace(f"{path.parent.name}/{path.name}", name)
        path.rename(folder / "images" / name)
    images.write_text(text)
    gone = [("cam0", 2), *(("cam1", n) for n in (0, 2)), ("cam2", 2), ("cam3", 2), ("cam3", 1)]
    drop(folder, *(f"{camera}/{rename(camera[-1], f'{instant:06d}')}.png" for camera, instant in gone))
    found, report = shown(tmp_path, "colmap")
    assert found == {(f"cam{c}", i): i for c in range(4) for i in range(4) if (f"cam{c}", i) not in gone}
    assert {row["camera"]: row["instants"] for row in report["missing_frames"]} == {
        "cam0": 1,
        "cam1": 1,
        "cam2": 1,
        "cam3": 2,
    }


def test_what_lies_beside_the_pictures_and_is_named_otherwise_is_no_instant(tmp_path):
    write_colmap_text(tmp_path / "stage", GENERAL)
    for path in list((tmp_path / "stage" / "images" / "cam0").iterdir()):
        save(path.with_name(f"{path.stem}_mask.png"), np.zeros((8, 8), np.uint8))
        path.with_suffix(".txt").write_text("seen")
    (scene,) = read_source(SourceFolder(tmp_path, "colmap"))
    assert all([picture.index for picture in film.pictures] == [0, 1, 2, 3] for film in map(pictures_of, scene.videos))


def pictures_of(film) -> Pictures:
    assert isinstance(film, Pictures)
    return film


def write_timed(folder, times):
    """A nerfstudio scene with a folder per camera: camera => times; pictures show their instant."""
    frames = []
    for number, (camera, of_camera) in enumerate(times.items()):
        for place, time in enumerate(of_camera):
            name = f"{camera}/{place:03d}.png"
            save(folder / name, GENERAL.picture(number, round(time * 3)))
            frames.append(
                {"file_path": name, "time": time, "transform_matrix": (GENERAL.c2w[number] @ OPENGL).tolist()}
            )
    write_json(folder / "transforms.json", {"fl_x": 95.0, "frames": frames})


def test_times_of_cameras_that_differ_by_less_than_half_a_frame(tmp_path):
    times = {"a": THIRDS, "b": [0.02, 1 / 3 + 0.1, 1.0 - 0.1], "c": np.array(THIRDS, np.float32).astype(float).tolist()}
    write_timed(tmp_path / "raw" / "room", times)
    found, report = shown(tmp_path, "nerfstudio")
    assert found == {(camera, i): i for camera in "abc" for i in range(4) if (camera, i) != ("b", 2)}
    assert report["missing_frames"] == [{"scene": "room", "camera": "b", "instants": 1}]


def test_cameras_with_nothing_in_common_are_said(tmp_path):
    write_colmap_text(tmp_path / "stage", GENERAL)
    images = tmp_path / "stage" / "sparse" / "0" / "images.txt"
    text = images.read_text()
    for camera in range(4):
        for instant in range(4):
            name, new = f"cam{camera}/{instant:06d}.png", f"cam{camera}/{'stuv'[camera]}{'abcd'[instant]}.png"
            text = text.replace(name, new)
            (tmp_path / "stage" / "images" / name).rename(tmp_path / "stage" / "images" / new)
    images.write_text(text)
    facts, scenes = inspect_folder(SourceFolder(tmp_path, "colmap"))
    assert any("no two cameras' pictures have" in line for line in facts.scenes[0].warnings)
    assert sorted(p.index for film in scenes[0].videos for p in pictures_of(film).pictures) == list(range(16))


compose, take_apart = partial(unicodedata.normalize, "NFC"), partial(unicodedata.normalize, "NFD")


@pytest.mark.parametrize(("on_disk", "written"), [(compose, take_apart), (take_apart, compose)])
def test_names_of_the_parameters_may_be_composed_in_another_way(on_disk, written):
    scene, camera = on_disk("Bühne"), on_disk("Köln")
    rule = split_rule(test_cameras=[written("Köln")], held_out_in=[written("Bühne")])
    assert rule.split(scene, camera, np.zeros(1)).tolist() == ["test"]
    assert rule.unmatched({scene}, {camera}) == []
    assert rule.unmatched({"x"}, {"y"}) == [*(rule.held_out_in or ()), *rule.test_cameras]
