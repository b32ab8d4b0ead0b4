"""COLMAP models: models written by pycolmap are read, rigs share one clock, unsupported lenses are refused."""

import zlib  # noqa: F401  # before pycolmap: 4.1 to 4.2 corrupt the heap when zlib is loaded after them
from dataclasses import replace

import numpy as np
import pytest
from format_writers import GENERAL, LENS, NUM_INSTANTS, save, write_colmap_binary, write_colmap_text

from fourdistill.errors import InputError
from fourdistill.scene import Pictures
from fourdistill.sources.readers import SourceFolder, read_source

pycolmap = pytest.importorskip("pycolmap")

LEFT_FROM_RIGHT = np.array([[1.0, 0, 0, 0.3], [0, 1, 0, 0], [0, 0, 1, 0]])  # the right camera's pose in the left one
NAMES = {1: "left", 2: "right"}


def write_rig(folder, binary):
    """A stereo rig at the poses of `GENERAL`, written by pycolmap; the last frame lacks its right picture."""
    model = pycolmap.Reconstruction()
    fx, fy, cx, cy = GENERAL.K[0, 0], GENERAL.K[1, 1], GENERAL.K[0, 2], GENERAL.K[1, 2]
    for number in NAMES:
        model.add_camera(
            pycolmap.Camera(
                camera_id=number,
                model="OPENCV",
                width=112,
                height=80,
                params=[fx, fy, cx, cy, *np.multiply(LENS, number)],
            )
        )
    rig = pycolmap.Rig(rig_id=1)
    rig.add_ref_sensor(pycolmap.sensor_t(pycolmap.SensorType.CAMERA, 1))
    right_from_left = np.linalg.inv(np.vstack([LEFT_FROM_RIGHT, [0, 0, 0, 1]]))[:3]
    rig.add_sensor(pycolmap.sensor_t(pycolmap.SensorType.CAMERA, 2), pycolmap.Rigid3d(right_from_left))
    model.add_rig(rig)
    shots = [
        (frame, camera)
        for frame in range(len(GENERAL.c2w))
        for camera in NAMES
        if (frame, camera) != (len(GENERAL.c2w) - 1, 2)
    ]
    images = {shot: number for number, shot in enumerate(reversed(shots), start=7)}
    for index, c2w in enumerate(GENERAL.c2w):
        frame = pycolmap.Frame(frame_id=20 - index, rig_id=1)
        frame.rig_from_world = pycolmap.Rigid3d(np.linalg.inv(c2w)[:3])
        for camera in NAMES:
            if (index, camera) in images:
                sensor = pycolmap.sensor_t(pycolmap.SensorType.CAMERA, camera)
                frame.add_data_id(pycolmap.data_t(sensor, images[index, camera]))
        model.add_frame(frame)
    for (index, camera), number in images.items():
        name = f"{NAMES[camera]}/{index + 1}.png"
        image = pycolmap.Image(name=name, camera_id=camera, image_id=number, frame_id=20 - index)
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D(np.array([3.5, 4.5]))] * (number % 3))
        model.add_image(image)
        save(folder / "images" / name, GENERAL.picture(index, index))
    for index in range(len(GENERAL.c2w)):
        model.register_frame(20 - index)
    path = folder / "sparse" / "0"
    path.mkdir(parents=True)
    (model.write_binary if binary else model.write_text)(path)
    assert (path / f"frames.{'bin' if binary else 'txt'}").is_file()


@pytest.mark.parametrize("binary", [True, False], ids=["bin", "txt"])
def test_a_rig_that_pycolmap_wrote(tmp_path, binary):
    write_rig(tmp_path / "stage", binary)
    (scene,) = read_source(SourceFolder(tmp_path, "colmap"))
    assert [film.camera_id for film in scene.videos] == ["left", "right"]
    for film, inside_rig, factor in zip(scene.videos, (np.eye(4)[:3], LEFT_FROM_RIGHT), (1, 2), strict=True):
        assert isinstance(film, Pictures)
        expected = GENERAL.c2w @ np.vstack([inside_rig, [0, 0, 0, 1]])
        num = len(GENERAL.c2w) - (factor == 2)
        assert [picture.index for picture in film.pictures] == list(range(num))
        for picture, pose in zip(film.pictures, expected[:num], strict=True):
            assert picture.path == tmp_path / "stage" / "images" / film.camera_id / f"{picture.index + 1}.png"
            assert picture.camera is not None and picture.camera.distortion is not None
            np.testing.assert_allclose(picture.camera.c2w, pose, atol=1e-9)
            np.testing.assert_allclose(picture.camera.K, GENERAL.K)
            np.testing.assert_allclose(picture.camera.distortion[:4], np.multiply(LENS, factor))


@pytest.mark.parametrize("write", [write_colmap_text, write_colmap_binary])
def test_pycolmap_reads_what_the_writers_of_these_tests_write(tmp_path, write):
    """This verifies that the writers produce the real format."""
    write(tmp_path, replace(GENERAL, distortion=LENS))
    model = pycolmap.Reconstruction(tmp_path / "sparse" / "0")
    assert model.num_images() == len(GENERAL.c2w) * NUM_INSTANTS
    for image in model.images.values():
        w2c = np.linalg.inv(GENERAL.c2w[image.camera_id - 1])
        np.testing.assert_allclose(image.cam_from_world().matrix(), w2c[:3], atol=1e-12)
        assert image.name.startswith(f"cam{image.camera_id - 1}/")
        np.testing.assert_allclose(image.camera.calibration_matrix(), GENERAL.K)
        seen = image.camera.img_from_cam(np.array([[0.1, -0.2, 1.0]]))
        np.testing.assert_allclose(seen, [distorted(0.1, -0.2)], atol=1e-9)


def distorted(x, y):
    k1, k2, p1, p2 = LENS
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2 * r2
    u = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    v = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    return GENERAL.K[0, 0] * u + GENERAL.K[0, 2], GENERAL.K[1, 1] * v + GENERAL.K[1, 2]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("PINHOLE 112 80", "OPENCV_FISHEYE 112 80", "camera model OPENCV_FISHEYE: expected one of"),
        ("PINHOLE 112 80", "PINHOLE 112 -80", "expected a width and height"),
        ("PINHOLE 112 80", "PINHOLE 99999999999 80", "expected a width and height"),
        ("PINHOLE 112 80 93.0", "PINHOLE 112 80 -93.0", "positive focal lengths"),
        ("PINHOLE 112 80 93.0", "PINHOLE 112 80 nan", "finite intrinsics"),
        ("1 PINHOLE 112", "9 PINHOLE 112", "camera 1: expected it in the model"),
    ],
)
def test_cameras_with_nonsense(tmp_path, old, new, expected):
    write_colmap_text(tmp_path / "stage", GENERAL)
    path = tmp_path / "stage" / "sparse" / "0" / "cameras.txt"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=expected):
        read_source(SourceFolder(tmp_path, "colmap"))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("100 ", "100 nan ", "expected"),
        ("cam0/000000.png", "../../../etc/passwd", "expected a path inside"),
        ("cam0/000000.png", "/etc/passwd", "expected a path inside"),
        ("cam0/000000.png", "", "expected a line of a COLMAP model"),
        ("cam0/000001.png", "cam0/000000.png", "expected each picture once"),
    ],
)
def test_images_with_nonsense(tmp_path, old, new, expected):
    write_colmap_text(tmp_path / "stage", GENERAL)
    path = tmp_path / "stage" / "sparse" / "0" / "images.txt"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=expected):
        read_source(SourceFolder(tmp_path, "colmap"))


def test_a_quaternion_of_no_rotation(tmp_path):
    write_colmap_text(tmp_path / "stage", GENERAL)
    path = tmp_path / "stage" / "sparse" / "0" / "images.txt"
    lines = path.read_text().splitlines()
    words = lines[3].split()
    lines[3] = " ".join([words[0], "0", "0", "0", "0", *words[5:]])
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match="expected a unit quaternion"):
        read_source(SourceFolder(tmp_path, "colmap"))


@pytest.mark.parametrize("name", ["cameras", "images"])
def test_truncated_models(tmp_path, name):
    write_colmap_binary(tmp_path / "stage", GENERAL)
    path = tmp_path / "stage" / "sparse" / "0" / f"{name}.bin"
    whole = path.read_bytes()
    for length in (0, 7, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=rf"{name}\.bin: expected"):
            read_source(SourceFolder(tmp_path, "colmap"))
    path.write_bytes(b"\xff" * 8 + whole[8:])
    with pytest.raises(InputError, match=rf"{name}\.bin: expected at most"):
        read_source(SourceFolder(tmp_path, "colmap"))
