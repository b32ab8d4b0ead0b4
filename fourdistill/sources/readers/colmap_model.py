"""Parser for the files of a COLMAP model, text and binary: cameras, images, and the frames of rigs.

pycolmap is not used: it is an optional extra, and a damaged file can crash it and the whole process.
"""

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fourdistill.errors import InputError, one_line
from fourdistill.geometry.camera import intrinsics
from fourdistill.geometry.poses import compose, inverse
from fourdistill.sources.readers.parsing import check_lens, check_pose, check_size, read_bytes, read_text

_MAX_RECORDS = 10_000_000
# COLMAP's camera models in order of their ids, with their numbers of parameters.
_MODELS = (
    ("SIMPLE_PINHOLE", 3), ("PINHOLE", 4), ("SIMPLE_RADIAL", 4), ("RADIAL", 5), ("OPENCV", 8), ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12), ("FOV", 5), ("SIMPLE_RADIAL_FISHEYE", 4), ("RADIAL_FISHEYE", 5), ("THIN_PRISM_FISHEYE", 12),
    ("RAD_TAN_THIN_PRISM_FISHEYE", 16), ("SIMPLE_DIVISION", 4), ("DIVISION", 5), ("SIMPLE_FISHEYE", 3), ("FISHEYE", 4),
    ("EUCM", 6), ("EQUIRECTANGULAR", 2),
)  # fmt: skip
_READ = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")  # others are unsupported
_NUM_PARAMS = dict(_MODELS)
# Nine numbers, one space, and a name, which may contain spaces, also at its start and end.
_IMAGE = re.compile(r"\s*(?P<numbers>(?:\S+\s+){8}\S+)\s(?P<name>.+)")
_SENSOR_CAMERA = 0  # other kinds of sensor take no pictures


@dataclass(frozen=True)
class ModelCamera:
    """Camera intrinsics: `size` (width, height) in pixels, K (3, 3), and Brown-Conrady coefficients or None."""

    size: tuple[int, int]
    K: np.ndarray
    distortion: tuple[float, ...] | None


@dataclass(frozen=True)
class ModelImage:
    """A registered picture: its name relative to the pictures' folder, its camera, and c2w (4, 4), OpenCV axes."""

    image_id: int
    name: str
    camera_id: int
    c2w: np.ndarray


@dataclass(frozen=True)
class Model:
    """A COLMAP model without its points."""

    cameras: dict[int, ModelCamera | InputError]
    """An unusable camera is stored as its error: perhaps no picture uses it."""
    images: list[ModelImage]
    instants: dict[int, int]
    """Image id => id of its rig frame, whose images were taken at one instant; empty without rigs."""


def has_model(folder: Path) -> bool:
    """Whether a folder contains a model."""
    return any((folder / f"images{suffix}").is_file() for suffix in (".bin", ".txt"))


def count_images(folder: Path) -> int:
    """The number of pictures of the model in a folder; raises `InputError` if its file is damaged."""
    path = folder / "images.bin"
    return _Bytes(path).count() if path.is_file() else sum(1 for _ in _text_images(folder / "images.txt"))


def read_model(folder: Path) -> Model:
    """Read `cameras`, `images` and, if present, `frames` (.bin, else .txt); raises `InputError`."""
    suffix = ".bin" if (folder / "images.bin").is_file() else ".txt"
    paths = {name: folder / f"{name}{suffix}" for name in ("cameras", "images", "frames")}
    if not paths["images"].is_file():
        raise InputError(f"{folder}: expected images.bin or images.txt of a COLMAP model, found neither")
    binary = suffix == ".bin"
    raw = _binary_cameras(paths["cameras"]) if binary else _text_cameras(paths["cameras"])
    cameras = {camera_id: _camera(paths["cameras"], *values) for camera_id, values in raw}
    images = list(_binary_images(paths["images"]) if binary else _text_images(paths["images"]))
    for image in images:
        if image.camera_id not in cameras:
            raise InputError(
                f"{paths['images']}: {image.name[:200]!r}: camera {image.camera_id}: expected it in the model"
            )
    instants: dict[int, int] = {}
    if paths["frames"].is_file():
        instants = dict(_binary_frames(paths["frames"]) if binary else _text_frames(paths["frames"]))
    return Model(cameras, images, instants)


RawCamera = tuple[str, tuple[int, int], tuple[float, ...]]  # model, (width, height), parameters in COLMAP's order


def _camera(path: Path, model: str, size: tuple[int, int], params: tuple[float, ...]) -> ModelCamera | InputError:
    """One camera from its model's name and parameters in COLMAP's order, or the error if it is unusable."""
    try:
        return _usable_camera(path, model, size, params)
    except InputError as error:
        return error


def _usable_camera(path: Path, model: str, size: tuple[int, int], params: tuple[float, ...]) -> ModelCamera:
    where = f"{path}: camera model {model[:40]}"
    if model not in _READ or len(params) != _NUM_PARAMS[model]:
        raise InputError(f"{where}: expected one of {', '.join(_READ)} with its parameters")
    if model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL"):
        (f, cx, cy), lens = params[:3], params[3:]
        K = intrinsics(f, f, cx, cy)
    else:
        K, lens = intrinsics(*params[:4]), params[4:]
    if model in ("SIMPLE_RADIAL", "RADIAL"):
        k1, k2 = (*lens, 0.0)[:2]
        lens = (k1, k2, 0.0, 0.0)
    if any(lens[5:]) or not all(map(math.isfinite, lens)):
        raise InputError(f"{where}: expected finite k1, k2, p1, p2, k3, and k4 to k6 of 0, which is all that is undone")
    return ModelCamera(check_size(size, where), check_lens(K, where), lens[:5] if any(lens) else None)


def _image(path: Path, image_id: int, name: str, camera_id: int, values: tuple[float, ...]) -> ModelImage:
    """One image from (qw, qx, qy, qz, tx, ty, tz), the transform from world to camera."""
    where = f"{path}: {name[:200]!r}"
    quaternion, translation = np.array(values[:4]), np.array(values[4:])
    length = math.hypot(*values[:4])
    if not (np.isfinite(values).all() and 0.5 < length < 2):
        raise InputError(f"{where}: expected a unit quaternion and a finite translation")
    w, x, y, z = quaternion / length
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return ModelImage(image_id, name, camera_id, check_pose(inverse(compose(rotation, translation)), where))


class _Bytes:
    """A binary file, read sequentially; raises `InputError` if it ends too early."""

    def __init__(self, path: Path) -> None:
        self._path, self._data, self._at = path, read_bytes(path, "a file of a COLMAP model"), 0

    def unpack(self, layout: str) -> tuple:
        size = struct.calcsize("<" + layout)
        self._at += size
        if self._at > len(self._data):
            raise InputError(f"{self._path}: expected more than its {len(self._data)} bytes: truncated, or no model")
        return struct.unpack_from("<" + layout, self._data, self._at - size)

    def count(self) -> int:
        (number,) = self.unpack("Q")
        if number > _MAX_RECORDS:
            raise InputError(f"{self._path}: expected at most {_MAX_RECORDS} records, found {number}")
        return number

    def text(self) -> str:
        end = self._data.find(b"\0", self._at)
        if end < 0:
            raise InputError(f"{self._path}: expected a name that ends: truncated, or no model")
        raw, self._at = self._data[self._at : end], end + 1
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"{self._path}: expected names in UTF-8, found {raw[:80]!r}") from error

    def skip(self, size: int) -> None:
        self.unpack(f"{size}x" if size < len(self._data) else f"{len(self._data)}x")


def _binary_cameras(path: Path) -> Iterator[tuple[int, RawCamera]]:
    data = _Bytes(path)
    for _ in range(data.count()):
        camera_id, model, width, height = data.unpack("iiQQ")
        if not 0 <= model < len(_MODELS):
            raise InputError(f"{path}: camera model {model}: expected one of {', '.join(_READ)}")
        name, num_params = _MODELS[model]
        yield camera_id, (name, (width, height), data.unpack(f"{num_params}d"))


def _binary_images(path: Path) -> Iterator[ModelImage]:
    data = _Bytes(path)
    for _ in range(data.count()):
        image_id, *values, camera_id = data.unpack("I7dI")
        name = data.text()
        data.skip(24 * data.count())  # x, y, and the id of the point
        yield _image(path, image_id, name, camera_id, tuple(values))


def _binary_frames(path: Path) -> Iterator[tuple[int, int]]:
    data = _Bytes(path)
    for _ in range(data.count()):
        frame_id, *_ = data.unpack("II7d")
        (num_images,) = data.unpack("I")
        for _ in range(num_images):
            kind, _, image_id = data.unpack("iIQ")
            if kind == _SENSOR_CAMERA:
                yield image_id, frame_id


def _lines(path: Path) -> Iterator[str]:
    """Lines of a text file without comments and line endings."""
    for line in read_text(path, "a file of a COLMAP model").split("\n"):  # `splitlines` could also split names
        if not line.lstrip().startswith("#"):
            yield line.removesuffix("\r")


def _fault(path: Path, line: str, error: Exception) -> InputError:
    return InputError(f"{path}: {line[:80]!r}: expected a line of a COLMAP model: {one_line(error, 200)}")


def _text_cameras(path: Path) -> Iterator[tuple[int, RawCamera]]:
    for line in _lines(path):
        words = line.split()
        if not words:
            continue
        try:
            camera_id, model, size = int(words[0]), words[1], (int(words[2]), int(words[3]))
            params = tuple(map(float, words[4:]))
        except (ValueError, IndexError) as error:
            raise _fault(path, line, error) from error
        yield camera_id, (model, size, params)


def _text_images(path: Path) -> Iterator[ModelImage]:
    lines = _lines(path)
    for line in lines:
        if not line.strip():
            continue
        found = _IMAGE.fullmatch(line)
        try:
            if found is None:
                raise ValueError("no nine numbers and a name")
            image_id, *numbers, camera_id = found["numbers"].split()
            values = tuple(map(float, numbers))
            ids = int(image_id), int(camera_id)
        except ValueError as error:
            raise _fault(path, line, error) from error
        points = next(lines, "")  # observed points; the line is empty without any
        if len(points.split()) % 3:
            raise _fault(path, points, ValueError("no x, y and id of points"))
        yield _image(path, ids[0], found["name"], ids[1], values)


def _text_frames(path: Path) -> Iterator[tuple[int, int]]:
    for line in _lines(path):
        words = line.split()
        if not words:
            continue
        try:
            frame_id, num_images = int(words[0]), int(words[9])
            sensors = [words[10 + 3 * index : 13 + 3 * index] for index in range(min(num_images, len(words)))]
            found = [(int(image_id), frame_id) for kind, _, image_id in sensors if kind == "CAMERA"]
        except (ValueError, IndexError) as error:
            raise _fault(path, line, error) from error
        yield from found
