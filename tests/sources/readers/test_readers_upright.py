"""Pictures stored on their side give the same frames, K and poses as pictures stored upright."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from format_writers import GENERAL, LENS, Capture, write_colmap_text, write_json, write_nerfies, write_nerfstudio
from PIL import ExifTags, Image, ImageOps
from stage_settings import frame_settings

from fourdistill.frames.extract import extract_frames
from fourdistill.geometry.camera import turn
from fourdistill.sources.inspect.facts import inspect_folder
from fourdistill.sources.readers import SourceFolder, read_source
from fourdistill.tables import FRAMES, read_table

# EXIF orientation => counter-clockwise quarter turns from the upright picture to the stored one, and whether the stored
# one is mirrored.
STORED = {
    1: (0, False), 2: (0, True), 3: (2, False), 4: (2, True),
    5: (1, True), 6: (1, False), 7: (3, True), 8: (3, False),
}  # fmt: skip


PAIR = replace(GENERAL, c2w=GENERAL.c2w[:2])


def turned(capture: Capture) -> Capture:
    """The capture with rotated cameras, whose pictures are a quarter turn counter-clockwise."""
    (fx, _, cx), (_, fy, cy) = capture.K[:2]
    width, height = capture.size
    k1, k2, p1, p2 = capture.distortion
    turn = np.array([[0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])  # of the camera, as of the picture
    K = np.array([[fy, 0, cy], [0, fx, width - cx], [0, 0, 1]])
    return replace(capture, K=K, size=(height, width), c2w=capture.c2w @ turn.T, distortion=(k1, k2, -p2, p1))


def test_the_turned_cameras_of_these_tests_see_the_same():
    capture = replace(GENERAL, distortion=LENS)
    for camera in range(len(capture.c2w)):
        x, y = capture.pixels(camera).T
        np.testing.assert_allclose(turned(capture).pixels(camera), np.stack([y, capture.size[0] - x], 1), atol=1e-9)


def lay_down(folder, orientation):
    """Add an EXIF orientation tag to the pictures, without changing the pixels."""
    for path in folder.rglob("*.png"):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        Image.open(path).save(path, exif=exif)


def mirrored(capture: Capture) -> Capture:
    """The capture of the mirrored world, whose pictures are the mirror images."""
    flip = np.diag([-1.0, 1, 1])
    K = capture.K.copy()
    K[0, 2] = capture.size[0] - K[0, 2]
    k1, k2, p1, p2 = capture.distortion
    c2w = capture.c2w.copy()
    c2w[:, :3] = flip @ c2w[:, :3] @ np.diag([-1.0, 1, 1, 1])
    return replace(capture, K=K, c2w=c2w, dots=capture.dots @ flip, distortion=(k1, k2, p1, -p2))


def extract(folder, name):
    """Rows and pixels (N, 40, 40, 3) of the frames of a source."""
    out = folder / "out"
    extract_frames(
        read_source(SourceFolder(folder / "raw", name)),
        out / "f",
        out / "t",
        out / "s",
        out / "r.json",
        frame_settings(size=40),
    )
    rows = read_table(out / "t", FRAMES).to_pylist()
    return rows, np.stack([np.asarray(Image.open(out / "f" / row["path"])).astype(int) for row in rows])


def assert_same(one, other):
    for row, expected in zip(one[0], other[0], strict=True):
        np.testing.assert_allclose(row["K"], expected["K"], atol=1e-9)
        np.testing.assert_allclose(row["c2w"], expected["c2w"], atol=1e-9)
    assert np.abs(one[1] - other[1]).mean() < 0.5 and np.abs(one[1] - other[1]).max() < 40


@pytest.mark.parametrize("orientation", STORED)
def test_every_orientation_under_a_colmap_model(tmp_path, orientation):
    """COLMAP uses the stored pixels. Of mirrored orientations only the rotation is undone: no camera mirrors."""
    quarters, mirror = STORED[orientation]
    upright = replace(PAIR, distortion=LENS)
    upright = mirrored(upright) if mirror else upright
    write_colmap_text(tmp_path / "plain" / "raw" / "room", upright)
    stored = upright
    for _ in range(quarters):
        stored = turned(stored)
    write_colmap_text(tmp_path / "exif" / "raw" / "room", stored)
    lay_down(tmp_path / "exif" / "raw", orientation)
    seen = np.asarray(ImageOps.exif_transpose(Image.open(next((tmp_path / "exif" / "raw").rglob("000001.png")))))
    plain = np.asarray(Image.open(next((tmp_path / "plain" / "raw").rglob("000001.png"))))
    assert np.abs(seen.astype(int) - (plain[:, ::-1] if mirror else plain)).max() <= 1  # checks the meaning of EXIF
    assert_same(extract(tmp_path / "exif", "colmap"), extract(tmp_path / "plain", "colmap"))
    facts, _ = inspect_folder(SourceFolder(tmp_path / "exif" / "raw", "colmap"))
    (scene,) = facts.scenes
    assert (scene.cameras[0].width, scene.cameras[0].height) == PAIR.size
    assert scene.cameras[0].focal_px == pytest.approx(upright.K[0, 0])
    assert any("turned upright" in line for line in scene.warnings) is (orientation > 1)
    assert any("mirrored" in line for line in scene.warnings) is mirror


def describe(folder, **keys):
    path = folder / "raw" / "room" / "transforms.json"
    write_json(path, json.loads(path.read_text()) | keys)


@pytest.mark.parametrize("sized", [True, False])
def test_a_description_speaks_of_the_stored_pixels(tmp_path, sized):
    write_nerfstudio(tmp_path / "plain" / "raw" / "room", PAIR)
    write_nerfstudio(tmp_path / "exif" / "raw" / "room", turned(PAIR))
    lay_down(tmp_path / "exif", 6)
    if not sized:
        describe(tmp_path / "exif", w=None, h=None)
    assert_same(extract(tmp_path / "exif", "nerfstudio"), extract(tmp_path / "plain", "nerfstudio"))


@pytest.mark.parametrize("write", [write_nerfstudio, write_nerfies, write_colmap_text])
def test_unless_its_size_is_that_of_the_upright_picture(tmp_path, write):
    """Poses made by a tool that had rotated the pictures first."""
    name = write.__name__.split("_")[1]
    for kind in ("plain", "exif"):
        write(tmp_path / kind / "raw" / "room", PAIR)
    for path in (tmp_path / "exif").rglob("*.png"):
        Image.open(path).transpose(Image.Transpose.ROTATE_90).save(path)
    lay_down(tmp_path / "exif", 6)
    assert_same(extract(tmp_path / "exif", name), extract(tmp_path / "plain", name))


def test_points_are_seen_where_the_upright_camera_says(tmp_path):
    """The whole chain, checked with OpenCV: pictures stored sideways, projected with the K and pose of the frames."""
    write_colmap_text(tmp_path / "raw" / "room", turned(turned(turned(PAIR))))
    lay_down(tmp_path, 8)
    rows, _ = extract(tmp_path, "colmap")
    for row in rows:
        camera = int(row["camera"][-1])
        c2w, K = np.reshape(row["c2w"], (4, 4)), np.reshape(row["K"], (3, 3))
        w2c = np.linalg.inv(c2w)
        pixels, _ = cv2.projectPoints(PAIR.dots, cv2.Rodrigues(w2c[:3, :3])[0], w2c[:3, 3], K, np.zeros(4))
        np.testing.assert_allclose(pixels[:, 0], (PAIR.pixels(camera) - [16, 0]) / 2, atol=1e-6)
        assert c2w[2, 1] < -0.5  # the picture's down is the world's down


def test_turning_a_camera_is_what_opencv_does():
    """K and pose of a picture after a quarter turn, compared with points projected before it."""
    K, turned_from_camera = turn(GENERAL.K, GENERAL.size)
    x, y = GENERAL.pixels(1).T
    c2w = GENERAL.c2w[1].copy()
    c2w[:3, :3] = c2w[:3, :3] @ turned_from_camera.T
    w2c = np.linalg.inv(c2w)
    found, _ = cv2.projectPoints(GENERAL.dots, cv2.Rodrigues(w2c[:3, :3])[0], w2c[:3, 3], K, np.zeros(4))
    np.testing.assert_allclose(found[:, 0], np.stack([GENERAL.size[1] - y, x], 1), atol=1e-9)
    assert np.linalg.det(turned_from_camera) == pytest.approx(1)
