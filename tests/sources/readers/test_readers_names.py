"""Spellings of names in descriptions and lists by different systems and tools; encodings of text files."""

import codecs
import json
import unicodedata
from pathlib import PurePosixPath

import numpy as np
import pytest
from format_writers import (
    CENTRAL,
    FORMATS,
    GENERAL,
    OPENGL,
    save,
    write_colmap_text,
    write_dnerf,
    write_json,
    write_nerfstudio,
)
from test_readers_fuzz import TARGETS

from fourdistill.errors import InputError
from fourdistill.scene import Pictures
from fourdistill.sources.names import canonical
from fourdistill.sources.readers import SourceFolder, read_source


def the_scene(folder, format_name):
    (scene,) = read_source(SourceFolder(folder, format_name))
    return scene


def pictures(film):
    assert isinstance(film, Pictures)
    return film.pictures


@pytest.mark.parametrize("name", ["images/a b.png", "images\\a b.png", "./images/a b.png", "images//a b.png"])
def test_one_spelling_of_a_path(name):
    assert canonical(name) == "images/a b.png"
    assert canonical(unicodedata.normalize("NFD", "Käse")) == unicodedata.normalize("NFC", "Käse")


SPELLINGS = {
    "posix": lambda name: name,
    "windows": lambda name: name.replace("/", "\\"),
    "dot": lambda name: f"./{name}",
    "percent": lambda name: name.replace(" ", "%20").replace("ü", "%C3%BC"),
    "nfd": lambda name: unicodedata.normalize("NFD", name),
}


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_list", ["posix", "windows", "dot", "nfd"])
@pytest.mark.parametrize("in_frame", SPELLINGS)
def test_the_split_of_a_nerfstudio_scene_however_names_are_spelt(tmp_path, in_frame, in_list, on_disk):
    names = [f"Bilder für alle/f_{number}.png" for number in range(4)]
    frames = []
    for number, name in enumerate(names):
        save(tmp_path / "room" / unicodedata.normalize(on_disk, name), GENERAL.picture(number, number))
        pose = (GENERAL.c2w[number] @ OPENGL).tolist()
        frames.append({"file_path": SPELLINGS[in_frame](name), "transform_matrix": pose})
    if in_frame == "percent":
        names = [frame["file_path"] for frame in frames]
    lists = {"train_filenames": names[:2], "val_filenames": names[2:3], "test_filenames": names[3:]}
    lists = {key: [SPELLINGS[in_list](name) for name in listed] for key, listed in lists.items()}
    write_json(tmp_path / "room" / "transforms.json", {"fl_x": 95.0, "frames": frames} | lists)
    (film,) = the_scene(tmp_path, "nerfstudio").videos
    assert [picture.split for picture in pictures(film)] == ["train", "train", "val", "test"]
    assert all(picture.path.is_file() for picture in pictures(film))


def edit(path, **keys):
    write_json(path, json.loads(path.read_text()) | keys)


@pytest.mark.parametrize("listed", ["images/frame_9.png", "frame_00001.png", "images/FRAME_00001.png"])
@pytest.mark.parametrize("key", ["train_filenames", "val_filenames", "test_filenames"])
def test_a_listed_picture_that_no_frame_is_is_an_error(tmp_path, key, listed):
    write_nerfstudio(tmp_path / "room", GENERAL)
    edit(tmp_path / "room" / "transforms.json", **{key: ["images/frame_00002.png", listed]})
    with pytest.raises(InputError, match=rf"transforms\.json: {key}: '{listed}': expected the file_path of a frame"):
        the_scene(tmp_path, "nerfstudio")


def test_frames_that_the_lists_do_not_name_are_left_out(tmp_path):
    write_nerfstudio(tmp_path / "room", GENERAL)
    edit(tmp_path / "room" / "transforms.json", train_filenames=["images/frame_00001.png", "images/frame_00002.png"])
    scene = the_scene(tmp_path, "nerfstudio")
    assert [picture.path.stem for picture in pictures(scene.videos[0])] == ["frame_00001", "frame_00002"]
    (row,) = scene.left_out
    assert (row.count, row.example) == (2, "images/frame_00003.png")


def test_dnerf_names_of_windows(tmp_path):
    write_dnerf(tmp_path / "kick", CENTRAL)
    path = tmp_path / "kick" / "transforms_train.json"
    value = json.loads(path.read_text())
    for frame in value["frames"]:
        frame["file_path"] = frame["file_path"].replace("./", "").replace("/", "\\")
    write_json(path, value)
    train, *_ = the_scene(tmp_path, "dnerf").videos
    assert [picture.path for picture in pictures(train)] == [
        tmp_path / "kick" / "train" / f"r_{number:03d}.png" for number in range(4)
    ]


@pytest.mark.parametrize(
    "name",
    ["shot  {}.png", " {}.png", "{}.png ", "a-DJI map wp-2 ({}).jpg", "Käse {}.png", "日本 {}.png", "a\x85b{}.png",
     "a\u2028b{}.png", "# {}.png", "{} 1 2.png", "{}\u00a0.png"],
)  # fmt: skip
def test_colmap_names_are_the_rest_of_the_line(tmp_path, name):
    folder = tmp_path / "room"
    write_colmap_text(folder, GENERAL)
    path = folder / "sparse" / "0" / "images.txt"
    text = path.read_text()
    expected = []
    for camera in range(4):
        for instant in range(4):
            new = f"cam{camera}/{name.format(instant)}"
            text = text.replace(f" cam{camera}/{instant:06d}.png", f" {new}")
            (folder / "images" / f"cam{camera}" / f"{instant:06d}.png").rename(folder / "images" / new)
            expected.append(folder / "images" / new)
    path.write_bytes(text.replace("\n", "\r\n").encode())
    found = [picture.path for film in the_scene(tmp_path, "colmap").videos for picture in pictures(film)]
    assert found == expected


def test_colmap_pictures_without_a_line_of_points(tmp_path):
    """Otherwise half of the pictures would be missed."""
    write_colmap_text(tmp_path / "room", GENERAL)
    path = tmp_path / "room" / "sparse" / "0" / "images.txt"
    path.write_text("\n".join(line for line in path.read_text().split("\n") if line.endswith(".png")))
    with pytest.raises(InputError, match=r"images\.txt: .* expected a line of a COLMAP model: no x, y and id"):
        the_scene(tmp_path, "colmap")


@pytest.mark.parametrize(
    ("folders", "cameras"),
    [
        (["cam0/images", "cam1/images", "cam2/images", "cam3/images"], ["cam0", "cam1", "cam2", "cam3"]),
        (
            ["day1/left", "day1/right", "day2/left", "day2/right"],
            ["day1_left", "day1_right", "day2_left", "day2_right"],
        ),
        (["a\\l", "a\\r", "b\\l", "b\\r"], ["a_l", "a_r", "b_l", "b_r"]),
    ],
)
def test_cameras_by_the_whole_of_their_paths(tmp_path, folders, cameras):
    folder = tmp_path / "room"
    write_colmap_text(folder, GENERAL)
    path = folder / "sparse" / "0" / "images.txt"
    text = path.read_text()
    for number, name in enumerate(folders):
        text = text.replace(f" cam{number}/0", " " + name + ("\\" if "\\" in name else "/") + "0")
        target = folder / "pictures" / name.replace("\\", "/")
        target.parent.mkdir(parents=True, exist_ok=True)
        (folder / "images" / f"cam{number}").rename(target)
    (folder / "images").rmdir()
    (folder / "pictures").rename(folder / "images")
    path.write_text(text)
    scene = the_scene(tmp_path, "colmap")
    assert [film.camera_id for film in scene.videos] == cameras
    for number, film in enumerate(scene.videos):
        for instant, picture in enumerate(pictures(film)):
            assert picture.index == instant and picture.path.is_file()
            assert picture.camera is not None
            np.testing.assert_allclose(picture.camera.c2w, GENERAL.c2w[number], atol=1e-9)


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: codecs.BOM_UTF8 + text.encode(),
        lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
        lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
        lambda text: codecs.BOM_UTF8 + text.replace("\n", "\r\n").encode(),
    ],
    ids=["utf-8", "utf-16-le", "utf-16-be", "crlf"],
)
@pytest.mark.parametrize(
    "target", [name for name, (_, _, path) in TARGETS.items() if PurePosixPath(path).suffix not in (".bin", ".npy")]
)
def test_texts_as_windows_saves_them(tmp_path, target, encode):
    format_name, write, name = TARGETS[target]
    folder = tmp_path / "scene"
    folder.mkdir()
    write(folder)
    expected = read_source(SourceFolder(folder, format_name))
    path = folder / name
    path.write_bytes(encode(path.read_text()))
    assert repr(read_source(SourceFolder(folder, format_name))) == repr(expected)


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_captions_as_windows_saves_them(tmp_path, form):
    form.write(tmp_path / "scene", GENERAL if form.general else CENTRAL)
    path = tmp_path / ("scene/caption.txt" if (tmp_path / "scene").is_dir() else "none.md")
    path.write_bytes(codecs.BOM_UTF16_LE + "ein  Mann\r\nspringt".encode("utf-16-le"))
    assert the_scene(tmp_path, form.name).caption == ("ein Mann springt" if path.suffix == ".txt" else None)
