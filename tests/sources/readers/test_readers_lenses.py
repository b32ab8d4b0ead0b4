"""A described lens is undistorted or refused, never ignored; unknown keys are reported."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from format_writers import (
    CENTRAL,
    GENERAL,
    LENS,
    nerfstudio_intrinsics,
    write_colmap_binary,
    write_colmap_text,
    write_dnerf,
    write_json,
    write_nerfstudio,
    write_realestate10k,
)

from fourdistill.errors import InputError
from fourdistill.scene import Camera, Pictures
from fourdistill.sources.inspect.facts import inspect_folder
from fourdistill.sources.readers import SourceFolder, read_source
from fourdistill.sources.readers.colmap_model import _MODELS


def cameras(folder, format_name) -> list[Camera]:
    """Cameras of the pictures of a scene with one moving camera."""
    (scene,) = read_source(SourceFolder(folder, format_name))
    film = scene.videos[0]
    assert isinstance(film, Pictures)
    found = [picture.camera for picture in film.pictures if picture.camera is not None]
    assert len(found) == len(film.pictures)
    return found


def describe(folder, format_name, capture, keys, per_frame=False):
    """Write a transforms file with `keys` instead of its writer's lens."""
    if format_name == "nerfstudio":
        write_nerfstudio(folder, capture)
        path, lens = folder / "transforms.json", nerfstudio_intrinsics(capture)
    else:
        write_dnerf(folder, capture)
        path, lens = folder / "transforms_train.json", {"camera_angle_x": 0}
        for split in ("val", "test"):
            (folder / f"transforms_{split}.json").unlink()
    value = {key: found for key, found in json.loads(path.read_text()).items() if key not in lens}
    value["frames"] = [frame | (keys if per_frame else {}) for frame in value["frames"]]
    write_json(path, value | ({} if per_frame else keys))


@pytest.mark.parametrize("per_frame", [False, True])
@pytest.mark.parametrize("format_name", ["dnerf", "nerfstudio"])
def test_transforms_files_mean_the_same_in_both_formats(tmp_path, format_name, per_frame):
    """With and without an angle in addition to the focal length, as written by instant-ngp's tools."""
    capture = replace(GENERAL, distortion=(*LENS, 0.002))
    keys = nerfstudio_intrinsics(capture)
    for name, more in (("angle", {"camera_angle_x": 1.0, "camera_angle_y": 0.7}), ("none", {})):
        describe(tmp_path / name, format_name, capture, keys | more, per_frame)
        for camera, pose in zip(cameras(tmp_path / name, format_name), capture.c2w, strict=True):
            np.testing.assert_allclose(camera.K, capture.K)
            np.testing.assert_allclose(camera.c2w, pose, atol=1e-9)
            assert (camera.size, camera.distortion) == (capture.size, capture.distortion)


@pytest.mark.parametrize("format_name", ["dnerf", "nerfstudio"])
@pytest.mark.parametrize(
    ("keys", "focal"),
    [
        ({"camera_angle_x": 2 * math.atan(56 / 95)}, (95, 95)),
        ({"camera_angle_x": 2 * math.atan(56 / 95), "camera_angle_y": 2 * math.atan(40 / 90)}, (95, 90)),
        ({"camera_angle_y": 2 * math.atan(40 / 90)}, (90, 90)),
        ({"fl_y": 90.0}, (90, 90)),
        ({"fl_x": 95.0, "camera_angle_y": 2 * math.atan(40 / 90)}, (95, 90)),
    ],
)
def test_focal_lengths_and_angles(tmp_path, format_name, keys, focal):
    describe(tmp_path, format_name, CENTRAL, keys)
    np.testing.assert_allclose(cameras(tmp_path, format_name)[0].K, [[focal[0], 0, 56], [0, focal[1], 40], [0, 0, 1]])


@pytest.mark.parametrize("format_name", ["dnerf", "nerfstudio"])
@pytest.mark.parametrize("per_frame", [False, True])
@pytest.mark.parametrize(
    "keys",
    [
        {"is_fisheye": True},
        {"camera_model": "OPENCV_FISHEYE"},
        {"camera_model": "EQUIRECTANGULAR"},
        {"k4": 0.01},
        {"k5": 0.01},
        {"skew": 0.3},
        {"ftheta_p1": 0.2},
        {"latlong": True},
        {"rolling_shutter": [0.0, 0.1, 0.0, 0.0]},
        {"distortion_params": [0, 0, 0, 0.1, 0, 0]},
    ],
    ids=str,
)
def test_other_lenses_are_refused(tmp_path, format_name, per_frame, keys):
    describe(tmp_path, format_name, CENTRAL, {"fl_x": 95.0} | keys, per_frame)
    with pytest.raises(
        InputError, match=r"transforms.*\.json: frames\.0: camera_model: expected one of OPENCV.* found"
    ):
        read_source(SourceFolder(tmp_path, format_name))


@pytest.mark.parametrize("format_name", ["dnerf", "nerfstudio"])
def test_keys_that_say_nothing_are_fine_and_unknown_ones_are_named(tmp_path, format_name):
    known = {"applied_scale": 2.0, "applied_transform": [[1, 0, 0, 0]] * 3, "aabb_scale": 16, "k4": 0.0, "ftheta_p0": 0}
    describe(tmp_path / "a", format_name, CENTRAL, {"fl_x": 95.0, "is_fisheye": False} | known)
    describe(tmp_path / "b", format_name, CENTRAL, {"fl_x": 95.0, "lens_breathing": 0.1, "my_note": "x"} | known)
    first, second = inspect_folder(SourceFolder(tmp_path, format_name))[0].scenes
    assert not any("not read" in line for line in first.warnings)
    assert any(line.endswith(".json: not read: lens_breathing, my_note") for line in second.warnings)


def test_a_realestate10k_clip_through_a_lens_is_bad(tmp_path):
    for name in ("ideal", "wide"):
        write_realestate10k(tmp_path / "scene", GENERAL, name)
    path = tmp_path / "wide.txt"
    lines = [line.split() for line in path.read_text().splitlines()]
    for line in lines[1:]:
        line[5:7] = ["-0.2", "0.05"]
    path.write_text("\n".join(map(" ".join, lines)))
    ideal, wide = read_source(SourceFolder(tmp_path, "realestate10k"))
    assert len(ideal.videos) == 1 and not wide.videos
    assert wide.bad[0].reason == "line 2: k1, k2: expected 0, found -0.2 and 0.05"


FISHEYE = {"FOV": 5, "SIMPLE_RADIAL_FISHEYE": 4, "THIN_PRISM_FISHEYE": 12, "EQUIRECTANGULAR": 2}


@pytest.mark.parametrize("model", FISHEYE)
@pytest.mark.parametrize("camera", [1, 9])
def test_a_colmap_lens_that_is_not_undone(tmp_path, model, camera):
    """Only that camera's pictures are bad, and none if no picture uses that camera."""
    write_colmap_text(tmp_path / "room", GENERAL)
    path = tmp_path / "room" / "sparse" / "0" / "cameras.txt"
    lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{camera} ")]
    path.write_text("\n".join([*lines, f"{camera} {model} 112 80 {' '.join(['50'] * FISHEYE[model])}"]))
    (scene,) = read_source(SourceFolder(tmp_path, "colmap"))
    assert [film.camera_id for film in scene.videos] == [f"cam{n}" for n in range(4) if n != camera - 1]
    assert len(scene.bad) == (4 if camera == 1 else 0)
    assert all(f"camera model {model}: expected one of SIMPLE_PINHOLE" in piece.reason for piece in scene.bad)


def test_colmap_models_by_number(tmp_path):
    """All COLMAP models in binary files are known by name, whatever their number of parameters."""
    pycolmap = pytest.importorskip("pycolmap")
    for number, (name, num_params) in enumerate(_MODELS):
        model = pycolmap.CameraModelId(number)
        assert (model.name, len(pycolmap.Camera.create_from_model_id(1, model, 9.0, 9, 9).params)) == (name, num_params)
    write_colmap_binary(tmp_path / "room", replace(GENERAL, distortion=LENS))
    path = tmp_path / "room" / "sparse" / "0" / "cameras.bin"
    data = bytearray(path.read_bytes())
    for camera in range(4):
        data[8 + camera * 88 + 4] = 5  # OPENCV_FISHEYE has as many parameters as OPENCV
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"cameras\.bin: camera model OPENCV_FISHEYE: expected one of"):
        read_source(SourceFolder(tmp_path, "colmap"))


def test_the_largest_colmap_model_is_read_and_the_others_are_named(tmp_path):
    write_colmap_text(tmp_path / "room", GENERAL)
    sparse = tmp_path / "room" / "sparse"
    text = (sparse / "0" / "images.txt").read_text().split("\n")
    for number, num in ((1, 3), (2, 16), (3, 2), (10, 1)):
        (sparse / str(number)).mkdir()
        (sparse / str(number) / "cameras.txt").write_text((sparse / "0" / "cameras.txt").read_text())
        (sparse / str(number) / "images.txt").write_text("\n".join(text[: 3 + 2 * num]))
    (sparse / "0" / "images.txt").write_text("\n".join(text[: 3 + 2 * 5]))
    (sparse / "10" / "images.txt").write_text("damaged")
    (scene,) = read_source(SourceFolder(tmp_path, "colmap"))
    assert scene.pose_source == "COLMAP, sparse/2" and len(scene.videos) == 4
    assert scene.warnings[0] == (
        "several models: sparse/2 with 16 pictures is read, "
        "not sparse/0 with 5, sparse/1 with 3, sparse/3 with 2, sparse/10 with 0"
    )
