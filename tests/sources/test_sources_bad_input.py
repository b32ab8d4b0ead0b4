"""Bad input of every kind gives a one-line error or a skip counted in the report, never a traceback."""

import json
import os
import subprocess
from fractions import Fraction
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image
from stage_settings import frame_settings
from tiny_scenes import SIZE, gray_film, poses_bounds, ring_cameras, write_dynerf, write_film

from fourdistill.errors import InputError
from fourdistill.features.images import read_frame
from fourdistill.frames.extract import extract_frames
from fourdistill.sources.readers import SourceFolder, read_source, read_sources
from fourdistill.storage.store import open_set
from fourdistill.tables import FRAMES, read_table
from fourdistill.video.pictures import read_picture
from fourdistill.video.probe import VideoError, probe_video

EYE = np.diag([1.0, -1, -1, 1])  # OpenGL pose of a camera whose OpenCV axes are the world's


def refuse(folder, format_name, *parts):
    """Reading must fail with one line that contains all parts."""
    with pytest.raises(InputError) as caught:
        read_sources([SourceFolder(folder, format_name)])
    message = str(caught.value)
    assert "\n" not in message and all(part in message for part in parts), message


def extract(folder, source, **options: Any):
    """(rows, report)."""
    out = folder / "out"
    options = {"size": SIZE, "max_bad_fraction": 0.5} | options
    extract_frames(read_source(source), out / "frames", out / "t", out / "s", out / "r.json", frame_settings(**options))
    return read_table(out / "t", FRAMES).to_pylist(), json.loads((out / "r.json").read_text())


def write_transforms(folder, names=("0.png", "1.png", "2.png"), size=(SIZE, SIZE), **common):
    """Write a nerfstudio scene of gray pictures; returns its description, for changes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (90, 90, 90)).save(folder / name)
    frames = [{"file_path": name, "transform_matrix": EYE.tolist()} for name in names]
    value: dict[str, Any] = {"fl_x": 40.0, "w": size[0], "h": size[1], "frames": frames} | common
    rewrite(folder, value)
    return value


def rewrite(folder, value):
    (folder / "transforms.json").write_text(json.dumps(value))


# --- videos


def write_sound(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 8000, 0, Fraction(1, 8000)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_a_file_of_sound_alone(tmp_path):
    write_film(tmp_path / "raw" / "a.mp4", gray_film([10, 20]))
    write_sound(tmp_path / "raw" / "b.mp4")
    with pytest.raises(VideoError, match="expected a video stream, found none"):
        probe_video(tmp_path / "raw" / "b.mp4")
    rows, report = extract(tmp_path, SourceFolder(tmp_path / "raw", "video"))
    assert {row["scene"] for row in rows} == {"a"}
    assert [(bad["scene"], bad["reason"]) for bad in report["bad"]] == [("b", "expected a video stream, found none")]


@pytest.mark.parametrize("target", ["b.mp4", "gone.mp4"])
def test_a_link_to_itself_or_to_nothing_is_a_bad_video(tmp_path, target):
    write_film(tmp_path / "raw" / "a.mp4", gray_film([10, 20]))
    (tmp_path / "raw" / "b.mp4").symlink_to(target)
    rows, report = extract(tmp_path, SourceFolder(tmp_path / "raw", "video"))
    assert {row["scene"] for row in rows} == {"a"}
    assert [bad["scene"] for bad in report["bad"]] == ["b"]


def test_a_folder_that_links_to_itself(tmp_path):
    (tmp_path / "raw").symlink_to("raw")
    refuse(tmp_path / "raw", "video", "raw")


def test_a_folder_that_links_to_its_parent_ends(tmp_path):
    write_dynerf(tmp_path / "raw" / "kick", 2, 2)
    (tmp_path / "raw" / "kick" / "again").symlink_to("..")
    (scene,) = read_source(SourceFolder(tmp_path / "raw", "dynerf"))
    assert len(scene.videos) == 2


@pytest.mark.parametrize("fps", [None, 4.0])
def test_a_film_whose_frames_change_their_size(tmp_path, fps):
    """Two videos of different sizes in one file: the second would be cropped off-centre."""
    for name, size in (("one", (SIZE, SIZE)), ("two", (2 * SIZE, SIZE))):
        write_film(tmp_path / f"{name}.mp4", gray_film([50] * 4, size))
    (tmp_path / "list").write_text("file one.mp4\nfile two.mp4\n")
    (tmp_path / "raw").mkdir()
    join = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-f", "concat", "-i", tmp_path / "list"]
    subprocess.run([*join, "-c", "copy", tmp_path / "raw" / "a.mp4"], check=True)
    assert len(probe_video(tmp_path / "raw" / "a.mp4").timestamps_s) == 8
    with pytest.raises(InputError, match=r"a\.mp4: expected frames of one size, found 32x32 and 64x32"):
        extract(tmp_path, SourceFolder(tmp_path / "raw", "video", fps=fps))


def test_a_camera_that_filmed_long_before_the_others(tmp_path):
    scene = write_dynerf(tmp_path / "raw" / "kick", 2, 3)
    (scene / "sync.csv").write_text("camera,offset_s\ncam01,-900000000\n")
    with pytest.raises(InputError, match=r"kick: expected at most 10000000 instants, found times from -9e\+08 s"):
        extract(tmp_path, SourceFolder(tmp_path / "raw", "dynerf"))


def test_a_camera_with_no_frame_at_any_instant(tmp_path):
    for name, times in (("a", [0.0, 1.0]), ("b", [1.9])):
        write_film(tmp_path / "raw" / "kick" / f"{name}.mp4", gray_film([50] * len(times)), times)
    rows, report = extract(tmp_path, SourceFolder(tmp_path / "raw", "video", fps=1.0))
    assert {row["camera"] for row in rows} == {"a"}
    assert [(bad["camera"], bad["reason"][:37]) for bad in report["bad"]] == [
        ("b", "expected a frame at one of the scene'")
    ]


# --- pictures


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(b""), "expected a whole picture"),
        (lambda path: path.write_bytes(path.read_bytes()[:60]), "expected a whole picture"),
        (lambda path: path.unlink(), "there is no such file"),
        (lambda path: (path.unlink(), path.symlink_to(path.name + ".gone")), "there is no such file"),
        (
            lambda path: Image.new("RGB", (SIZE, 2 * SIZE)).save(path),
            "expected the calibrated shape 32x32, found 32x64",
        ),
        (lambda path: Image.new("F", (SIZE, SIZE)).save(path, format="TIFF"), "expected 8 or 16 bits a channel"),
        (lambda path: Image.new("RGB", (SIZE, SIZE)).save(path, format="EPS"), "expected a whole picture"),
    ],
)
def test_a_bad_picture_among_good_ones_is_skipped_and_listed(tmp_path, damage, reason):
    write_transforms(tmp_path / "raw" / "room")
    damage(tmp_path / "raw" / "room" / "1.png")
    rows, report = extract(tmp_path, SourceFolder(tmp_path / "raw", "nerfstudio"))
    assert [row["frame_index"] for row in rows] == [0, 2]
    (bad,) = report["bad"]
    assert bad["path"].endswith("room/1.png") and reason in bad["reason"] and "\n" not in bad["reason"]


def test_a_picture_of_another_size_but_the_same_shape_is_a_copy(tmp_path):
    write_transforms(tmp_path / "raw" / "room")
    Image.new("RGB", (4 * SIZE, 4 * SIZE)).save(tmp_path / "raw" / "room" / "1.png")
    rows, report = extract(tmp_path, SourceFolder(tmp_path / "raw", "nerfstudio"))
    assert not report["bad"] and rows[0]["K"] == rows[1]["K"]


def test_a_camera_all_of_whose_pictures_are_bad_counts_with_all_of_them(tmp_path):
    write_transforms(tmp_path / "raw" / "room", [f"{camera}/{n}.png" for camera in "ab" for n in range(4)])
    for path in (tmp_path / "raw" / "room" / "b").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match="4 of 8 files are bad"):
        extract(tmp_path, SourceFolder(tmp_path / "raw", "nerfstudio"), max_bad_fraction=0.4)
    rows, _ = extract(tmp_path, SourceFolder(tmp_path / "raw", "nerfstudio"), max_bad_fraction=0.5)
    assert {row["camera"] for row in rows} == {"a"}


def test_a_lens_that_folds_over_is_refused(tmp_path):
    """Its polynomial is not monotonic up to the corners, so undistorted pixels there would be wrong."""
    write_transforms(tmp_path / "raw" / "room", fl_x=14.0, k1=-0.4)
    with pytest.raises(InputError, match="a lens whose distortion can be undone"):
        extract(tmp_path, SourceFolder(tmp_path / "raw", "nerfstudio"))
    write_transforms(tmp_path / "raw" / "room", fl_x=40.0, k1=-0.4)
    rows, _ = extract(tmp_path, SourceFolder(tmp_path / "raw", "nerfstudio"))
    assert len(rows) == 3


def test_pictures_that_claim_absurd_sizes(tmp_path):
    """Sizes in a header are checked before memory is allocated."""
    write_transforms(tmp_path / "room")
    path = tmp_path / "room" / "0.png"
    data = bytearray(path.read_bytes())
    for width, height in ((9_000, 9_000), (2**31 - 1, 2**31 - 1)):
        data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
        path.write_bytes(data)
        with pytest.raises(VideoError, match=r"megapixels|expected a whole picture"):
            read_picture(path, "white")


# --- descriptions


@pytest.mark.parametrize(
    "name",
    [
        "../../secret.png",
        "/etc/passwd",
        "images/../../x.png",
        "images/../x.png",
        ".",
        "",
        "link/x.png",
        "a\0b.png",
        "x" * 300,
    ],
)
def test_descriptions_that_point_outside_their_folder(tmp_path, name):
    (tmp_path / "elsewhere").mkdir()
    value = write_transforms(tmp_path / "raw" / "room")
    (tmp_path / "raw" / "room" / "link").symlink_to(tmp_path / "elsewhere")
    value["frames"][1]["file_path"] = name
    rewrite(tmp_path / "raw" / "room", value)
    refuse(tmp_path / "raw", "nerfstudio", "transforms.json", "expected a path")
    (tmp_path / "raw" / "room" / "transforms.json").rename(tmp_path / "raw" / "room" / "transforms_train.json")
    value["camera_angle_x"] = 1.0
    (tmp_path / "raw" / "room" / "transforms_train.json").write_text(json.dumps(value))
    refuse(tmp_path / "raw", "dnerf", "transforms_train.json", "expected a path")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda v: v["frames"][1]["transform_matrix"][0].__setitem__(0, float("nan")), "frames.1.transform_matrix"),
        (lambda v: v["frames"][1]["transform_matrix"][0].__setitem__(0, 2.0), "orthonormal"),
        (lambda v: v["frames"][1]["transform_matrix"][2].__setitem__(2, 1.0), "right-handed"),
        (lambda v: v["frames"][1]["transform_matrix"][3].__setitem__(3, 0.0), "orthonormal"),
        (lambda v: v["frames"][1]["transform_matrix"].pop(), "frames.1.transform_matrix"),
        (lambda v: v["frames"][1].pop("transform_matrix"), "frames.1.transform_matrix"),
        (lambda v: v["frames"][1].update(file_path="2.png"), "expected each picture once"),
        (lambda v: v["frames"][1].update(time=0.5), "'0.png': time: expected one"),
        (lambda v: v["frames"].clear(), "frames"),
        (lambda v: v.update(w=1e12), "expected a width and height of 1 to 65536"),
        (lambda v: v.update(w=0), "expected a width and height of 1 to 65536"),
        (lambda v: v.update(fl_x=-1.0), "positive focal lengths"),
        (lambda v: v.update(fl_x="forty"), "fl_x"),
        (lambda v: v.pop("fl_x"), "expected fl_x or camera_angle_x"),
        (lambda v: v.update(camera_model="OPENCV_FISHEYE"), "found OPENCV_FISHEYE"),
        (lambda v: v.update(is_fisheye=True), "no fisheye"),
        (lambda v: v.update(k4=0.1), "no k4"),
        (lambda v: v.update(distortion_params=[0, 0, 0, 0.1, 0, 0]), "no k4"),
    ],
)
def test_transforms_with_nonsense(tmp_path, change, expected):
    value = write_transforms(tmp_path / "room")
    change(value)
    rewrite(tmp_path / "room", value)
    refuse(tmp_path / "room", "nerfstudio", "transforms.json", expected)


def write_nerfies(folder):
    """A Nerfies scene of two frames by one camera."""
    for name in ("a", "b"):
        (folder / "rgb" / "1x").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (SIZE, SIZE)).save(folder / "rgb" / "1x" / f"{name}.png")
        camera = {
            "orientation": np.eye(3).tolist(), "position": [0, 0, 1.0], "focal_length": 40.0,
            "principal_point": [16.0, 16.0], "image_size": [SIZE, SIZE], "skew": 0.0, "pixel_aspect_ratio": 1.0,
            "radial_distortion": [0, 0, 0], "tangential_distortion": [0, 0],
        }  # fmt: skip
        (folder / "camera").mkdir(exist_ok=True)
        (folder / "camera" / f"{name}.json").write_text(json.dumps(camera))
    metadata = {name: {"warp_id": number, "camera_id": 0} for number, name in enumerate("ab")}
    (folder / "metadata.json").write_text(json.dumps(metadata))
    (folder / "dataset.json").write_text(json.dumps({"ids": ["a", "b"], "train_ids": ["a"], "val_ids": ["b"]}))


def damage_nerfies(folder, file, old, new):
    write_nerfies(folder)
    path = folder / file
    if old is None:
        path.unlink()
    else:
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("metadata.json", '"warp_id": 1', '"warp_id": 1e300', "warp_id"),
        ("dataset.json", '"a", "b"', '"a", "b", "../../b"', "expected a"),
        ("dataset.json", '"a", "b"', "", "ids"),
        ("dataset.json", '"val_ids": ["b"]', '"val_ids": ["rgb/b"]', "val_ids: 'rgb/b': expected one of ids"),
    ],
)
def test_nerfies_with_nonsense(tmp_path, file, old, new, expected):
    damage_nerfies(tmp_path / "broom", file, old, new)
    refuse(tmp_path, "nerfies", expected)


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("camera/b.json", None, None, "camera/b.json"),
        ("metadata.json", '"b"', '"c"', "'b': expected an entry"),
        ("metadata.json", '"warp_id": 1', '"warp_id": 0', "warp_id: expected one of its own"),
        ("camera/b.json", "[0, 0, 1.0]", "[0, NaN, 1.0]", "position"),
        ("camera/b.json", "[1.0, 0.0, 0.0]", "[1.0, 0.5, 0.0]", "orthonormal"),
        ("camera/b.json", '"skew": 0.0', '"skew": 0.1', "skew"),
        ("camera/b.json", "[32, 32]", "[32, 99999999]", "image_size: expected a width and height"),
    ],
)
def test_a_nerfies_id_that_cannot_be_used_is_skipped_and_listed(tmp_path, file, old, new, expected):
    damage_nerfies(tmp_path / "raw" / "broom", file, old, new)
    rows, report = extract(tmp_path, SourceFolder(tmp_path / "raw", "nerfies"))
    assert [row["frame_index"] for row in rows] == [0]
    (bad,) = report["bad"]
    assert bad["path"].endswith("rgb/1x/b.png") and expected in bad["reason"] and "\n" not in bad["reason"]


POSE = "1000 0.9 0.9 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 1 0"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://x\n", "expected lines of poses"),
        (f"http://x\n{POSE}\n{POSE}\n", "line 3: expected a time after"),
        (f"http://x\n{POSE} 1\n", "line 2: expected 19 numbers"),
        (f"http://x\n{POSE.replace('1000', 'noon')}\n", "line 2: expected numbers"),
        (f"http://x\n{POSE.replace('0.9', 'nan', 1)}\n", "line 2: expected finite intrinsics"),
        (f"http://x\n{POSE.replace(' 1 0 0 0', ' inf 0 0 0', 1)}\n", "line 2: expected finite numbers"),
        (
            f"http://x\n{POSE.replace(' 1 0 0 0', ' 2 0 0 0', 1)}\n",
            "line 2: expected finite numbers and an orthonormal",
        ),
        (f"http://x\n{POSE}\n", "expected its film"),
    ],
)
def test_realestate10k_with_nonsense(tmp_path, text, expected):
    (tmp_path / "clip.txt").write_text(text)
    refuse(tmp_path, "realestate10k", "clip.txt", expected)


def test_absurd_sizes_of_calibrated_cameras(tmp_path):
    write_dynerf(tmp_path / "kick", 2, 2)
    rows = poses_bounds(ring_cameras(2))
    rows[:, 9] = 1e300
    np.save(tmp_path / "kick" / "poses_bounds.npy", rows)
    refuse(tmp_path, "dynerf", "poses_bounds.npy: row 0: expected a width and height")


def test_arrays_that_claim_absurd_sizes(tmp_path):
    write_dynerf(tmp_path / "kick", 2, 2)
    path = tmp_path / "kick" / "poses_bounds.npy"
    whole = path.read_bytes()
    for number in (b"99999999999", b"9" * 25):  # numbers of rows that exceed memory, and an index's range
        header = b"(%s, 17)}" % number
        path.write_bytes(whole.replace(b"(2, 17), }".ljust(len(header)), header))
        assert path.read_bytes() != whole
        refuse(tmp_path, "dynerf", "poses_bounds.npy: expected an .npy array of numbers")


def test_frames_are_jpegs(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "0.png")
    with pytest.raises(InputError, match=r"0\.png: expected a readable picture"):
        read_frame(open_set(tmp_path, "extract_frames"), "0.png")


# --- names and text


def test_names_that_are_no_utf8(tmp_path):
    (tmp_path / os.fsdecode(b"f\xffilm.mp4")).write_bytes(b"never opened")
    refuse(tmp_path, "video", "expected a file name in UTF-8")
    folder = tmp_path / "other"
    (folder / os.fsdecode(b"sc\xe9ne")).mkdir(parents=True)
    for format_name in ("dynerf", "dnerf", "nerfies", "nerfstudio", "colmap", "qualisys"):
        refuse(folder, format_name, "expected a file name in UTF-8")


LATIN = "école".encode("latin-1")


@pytest.mark.parametrize(
    ("format_name", "file"),
    [
        ("dynerf", "kick/caption.txt"),
        ("dynerf", "kick/sync.csv"),
        ("nerfstudio", "kick/transforms.json"),
        ("dnerf", "kick/transforms_train.json"),
        ("nerfies", "kick/dataset.json"),
        ("colmap", "kick/sparse/0/images.txt"),
        ("colmap", "kick/sparse/0/cameras.txt"),
        ("qualisys", "kick/Calib.qca.txt"),
        ("realestate10k", "clip.txt"),
        ("ucf101", "ucfTrainTestlist/trainlist01.txt"),
    ],
)
def test_texts_that_are_no_utf8(tmp_path, format_name, file):
    write_dynerf(tmp_path / "kick", 2, 2)
    (tmp_path / "kick" / "sparse" / "0").mkdir(parents=True)
    for name in ("cameras", "images"):
        (tmp_path / "kick" / "sparse" / "0" / f"{name}.txt").write_text("")
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_bytes(LATIN)
    refuse(tmp_path, format_name, file, "expected")


def test_a_scene_may_be_the_folder_that_one_stands_in(tmp_path, monkeypatch):
    write_dynerf(tmp_path / "kick", 2, 2)
    monkeypatch.chdir(tmp_path / "kick")
    for path in (".", "", "../kick"):
        (scene,) = read_source(SourceFolder(type(tmp_path)(path), "dynerf"))
        assert scene.name == "kick"
