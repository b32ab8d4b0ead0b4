"""One small scene, written in every posed format according to the format's documentation, independently of our readers.

Cameras with known K and c2w (OpenCV axes) see dots in space. OpenCV's `projectPoints` computes where a dot must appear;
the results of our code are compared with that. A format has either several cameras or one moving camera: then frame i
of the video is the view of camera i of the capture.
"""

import json
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tiny_scenes import qualisys_xml, write_film

NUM_INSTANTS = 4
FPS = 8  # of `write_film`
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])  # right, up, back


def _rig_around() -> np.ndarray:
    """Four cameras (4, 4, 4) with different heights, distances and roll that look at a point near the origin."""
    poses = []
    placed = ((0.3, 0.4, 3.0, 0.05), (1.7, 0.9, 3.4, -0.1), (3.1, 0.2, 2.8, 0.0), (4.6, 0.6, 3.9, 0.2))
    for azimuth, height, distance, roll in placed:
        eye = np.array([distance * math.cos(azimuth), distance * math.sin(azimuth), height])
        forward = np.array([0.1, -0.05, 0.3]) - eye
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1.0])
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        about_axis = np.array([[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1]])
        pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1) @ about_axis
        pose[:3, 3] = eye
        poses.append(pose)
    return np.stack(poses)


@dataclass(frozen=True)
class Capture:
    """The scene and its cameras; `K` (3, 3) and `c2w` (C, 4, 4) as in the project, pixel centres at +0.5."""

    K: np.ndarray
    size: tuple[int, int] = (112, 80)
    c2w: np.ndarray = field(default_factory=_rig_around)
    dots: np.ndarray = field(
        default_factory=lambda: np.array([[0.1, 0.0, 0.3], [0.4, 0.3, 0.7], [-0.3, 0.35, 0.1], [0.2, -0.5, 0.5]])
    )
    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    """k1, k2, p1, p2 and optionally k3, as in OpenCV."""

    def pixels(self, camera: int, ideal: bool = False) -> np.ndarray:
        """Pixels (P, 2) of the dots in a camera's image; `ideal`: without distortion."""
        w2c = np.linalg.inv(self.c2w[camera])
        turn, _ = cv2.Rodrigues(w2c[:3, :3])
        lens = np.zeros(5) if ideal else np.array(self.distortion)
        pixels, _ = cv2.projectPoints(self.dots, turn, w2c[:3, 3], self.K, lens)
        return pixels[:, 0]

    def shape(self, camera: int, sigma: float = 1.6) -> np.ndarray:
        """Brightness of each pixel (H, W), in [0, 1]."""
        rows, columns = np.indices(self.size[::-1]) + 0.5
        dots = [np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)) for x, y in self.pixels(camera)]
        return np.max(dots, axis=0)

    def picture(self, camera: int, instant: int) -> np.ndarray:
        """RGB (H, W, 3): bright dots on a gray that encodes the instant."""
        gray = 10 + 15 * instant
        return np.repeat((gray + (250 - gray) * self.shape(camera))[..., None].round().astype(np.uint8), 3, axis=-1)


FOCAL = 95.0
CENTRAL = Capture(np.array([[FOCAL, 0, 56], [0, FOCAL, 40], [0, 0, 1]]))
"""One focal length and a central principal point, which is all that some formats support."""
GENERAL = Capture(np.array([[93.0, 0, 54.3], [0, 97.0, 41.8], [0, 0, 1]]))
LENS = (-0.12, 0.03, 0.004, -0.003)


def save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def write_dnerf(folder: Path, capture: Capture) -> None:
    """Blender's transforms: a horizontal field of view, OpenGL c2w, RGBA pictures named without extension."""
    frames = []
    for index, pose in enumerate(capture.c2w):
        shape = (255 * capture.shape(index)).round().astype(np.uint8)
        save(folder / "train" / f"r_{index:03d}.png", np.stack([np.full_like(shape, 255)] * 3 + [shape], axis=-1))
        frames.append(
            {
                "file_path": f"./train/r_{index:03d}",
                "rotation": 0.1,
                "time": index / (len(capture.c2w) - 1),
                "transform_matrix": (pose @ OPENGL).tolist(),
            }
        )
    angle = 2 * math.atan(0.5 * capture.size[0] / capture.K[0, 0])
    write_json(folder / "transforms_train.json", {"camera_angle_x": angle, "frames": frames})
    for split, index in (("val", 1), ("test", 2)):  # one picture each, at time 0 as the loader requires
        save(folder / split / "r_000.png", np.zeros((*capture.size[::-1], 4), np.uint8))
        frame = frames[index] | {"file_path": f"./{split}/r_000", "time": 0.0}
        write_json(folder / f"transforms_{split}.json", {"camera_angle_x": angle, "frames": [frame]})


def write_films(folder: Path, capture: Capture, name: str = "cam{:02d}.mp4", first: int = 0) -> None:
    for camera in range(len(capture.c2w)):
        pictures = np.stack([capture.picture(camera, instant) for instant in range(NUM_INSTANTS)])
        write_film(folder / name.format(camera + first), pictures)


def write_dynerf(folder: Path, capture: Capture) -> None:
    """LLFF's rows: 3x5 of columns down, right, back, centre and (H, W, f), then two depths."""
    rows = []
    for pose in capture.c2w:
        right, down, forward, eye = pose[:3].T
        hwf = np.array([capture.size[1], capture.size[0], capture.K[0, 0]])
        rows.append([*np.stack([down, right, -forward, eye, hwf], axis=1).ravel(), 0.5, 9.0])
    write_films(folder, capture)
    np.save(folder / "poses_bounds.npy", np.array(rows))


def write_qualisys(folder: Path, capture: Capture) -> None:
    """`qualisys_xml` uses a central principal point."""
    (folder / "calibration").mkdir(parents=True)
    xml = qualisys_xml(capture.c2w, capture.size, capture.K[0, 0], capture.distortion)
    (folder / "calibration" / "Calib.qca.txt").write_text(xml, encoding="utf-8")
    write_films(folder / "videos", capture, "cam{:02d}.mp4", first=1)


def write_nerfies(folder: Path, capture: Capture, shrink: int = 1) -> None:
    """Pictures in `rgb/1x`, or only at half of the calibrated size in `rgb/2x`."""
    ids, metadata = [], {}
    k1, k2, p1, p2, *k3 = capture.distortion
    for camera, pose in enumerate(capture.c2w):
        side = ("left", "right")[camera] if len(capture.c2w) == 2 else f"cam{camera}"
        for instant in range(NUM_INSTANTS):
            name = f"{side}_{instant:06d}"
            ids.append(name)
            metadata[name] = {"warp_id": instant, "appearance_id": instant, "camera_id": camera}
            picture = Image.fromarray(capture.picture(camera, instant))
            if shrink > 1:
                picture = picture.reduce(shrink)
            save(folder / "rgb" / f"{shrink}x" / f"{name}.png", np.asarray(picture))
            write_json(
                folder / "camera" / f"{name}.json",
                {
                    "orientation": pose[:3, :3].T.tolist(),
                    "position": pose[:3, 3].tolist(),
                    "focal_length": capture.K[0, 0],
                    "principal_point": capture.K[:2, 2].tolist(),
                    "skew": 0.0,
                    "pixel_aspect_ratio": capture.K[1, 1] / capture.K[0, 0],
                    "radial_distortion": [k1, k2, *(k3 or [0.0])],
                    "tangential": [p1, p2],
                    "image_size": list(capture.size),
                },
            )
    write_json(folder / "metadata.json", metadata)
    validation = [name for name in ids if metadata[name]["camera_id"] == len(capture.c2w) - 1]
    training = [name for name in ids if name not in validation]
    write_json(folder / "dataset.json", {"count": len(ids), "num_exemplars": len(training), "ids": ids,
                                         "train_ids": training, "val_ids": validation})  # fmt: skip
    write_json(folder / "scene.json", {"scale": 0.5, "center": [1.0, -2.0, 0.5], "near": 0.1, "far": 2.0})


def nerfstudio_intrinsics(capture: Capture) -> dict:
    k1, k2, p1, p2, *k3 = capture.distortion
    return {
        "fl_x": capture.K[0, 0], "fl_y": capture.K[1, 1], "cx": capture.K[0, 2], "cy": capture.K[1, 2],
        "w": capture.size[0], "h": capture.size[1], "k1": k1, "k2": k2, "p1": p1, "p2": p2,
    } | ({"k3": k3[0]} if k3 else {})  # fmt: skip


def write_nerfstudio(folder: Path, capture: Capture, per_frame: bool = False) -> None:
    """Intrinsics for all frames or for each; times as in its D-NeRF parser."""
    frames = []
    for index, pose in enumerate(capture.c2w):
        save(folder / "images" / f"frame_{index + 1:05d}.png", capture.picture(index, index))
        frame = {
            "file_path": f"images/frame_{index + 1:05d}.png",
            "transform_matrix": (pose @ OPENGL).tolist(),
            "time": index / (len(capture.c2w) - 1),
        }
        frames.append(frame | (nerfstudio_intrinsics(capture) if per_frame else {}))
    common = {} if per_frame else nerfstudio_intrinsics(capture)
    # Frames in the file are not in temporal order.
    write_json(folder / "transforms.json", {"camera_model": "OPENCV"} | common | {"frames": frames[::-1]})


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) => Hamilton quaternion (w, x, y, z), via the Rodrigues vector."""
    vector = cv2.Rodrigues(rotation)[0][:, 0]
    angle = float(np.linalg.norm(vector))
    return np.array([math.cos(angle / 2), *(math.sin(angle / 2) * vector / angle)])


COLMAP_MODELS = {"SIMPLE_PINHOLE": 0, "PINHOLE": 1, "SIMPLE_RADIAL": 2, "RADIAL": 3, "OPENCV": 4, "OPENCV_FISHEYE": 5}


def colmap_camera(capture: Capture) -> tuple[str, list[float]]:
    """The model and its parameters."""
    fx, fy, cx, cy = capture.K[0, 0], capture.K[1, 1], capture.K[0, 2], capture.K[1, 2]
    if any(capture.distortion):
        return "OPENCV", [fx, fy, cx, cy, *capture.distortion]
    return "PINHOLE", [fx, fy, cx, cy]


def colmap_images(capture: Capture) -> list[tuple[int, list[float], int, str]]:
    """Image id, qw qx qy qz tx ty tz of w2c, camera id and name; ids have gaps and are not in the order of names."""
    images = []
    for camera, pose in enumerate(capture.c2w):
        w2c = np.linalg.inv(pose)
        w, x, y, z = quaternion(w2c[:3, :3])
        for instant in range(NUM_INSTANTS):
            number = 100 - 10 * camera - 2 * instant
            images.append((number, [-w, -x, -y, -z, *w2c[:3, 3]], camera + 1, f"cam{camera}/{instant:06d}.png"))
    return images


def colmap_pictures(folder: Path, capture: Capture) -> None:
    for camera in range(len(capture.c2w)):
        for instant in range(NUM_INSTANTS):
            save(folder / "images" / f"cam{camera}" / f"{instant:06d}.png", capture.picture(camera, instant))


def write_colmap_text(folder: Path, capture: Capture) -> None:
    """`sparse/0/*.txt`, with comments, points seen in some images, and none in others (an empty line)."""
    colmap_pictures(folder, capture)
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    kind, parameters = colmap_camera(capture)
    numbers = " ".join(repr(float(value)) for value in parameters)
    lines = [f"{camera + 1} {kind} {capture.size[0]} {capture.size[1]} {numbers}" for camera in range(len(capture.c2w))]
    (model / "cameras.txt").write_text("\n".join(["# Camera list with one line of data per camera:", *lines]) + "\n")
    lines = ["# Image list with two lines of data per image:", "#   IMAGE_ID, QW, ...", "#   POINTS2D[] as (X, Y, ID)"]
    for number, pose, camera, name in colmap_images(capture):
        lines += [f"{number} {' '.join(repr(float(value)) for value in pose)} {camera} {name}"]
        lines += ["" if number % 4 else "12.5 13.25 1 40.0 2.5 -1"]
    (model / "images.txt").write_text("\n".join(lines) + "\n")
    (model / "points3D.txt").write_text("# 3D point list\n1 0.1 0.0 0.3 255 0 0 0.4 100 0 96 0\n")


def write_colmap_binary(folder: Path, capture: Capture) -> None:
    """`sparse/0/*.bin`, little endian."""
    colmap_pictures(folder, capture)
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    kind, parameters = colmap_camera(capture)
    cameras = struct.pack("<Q", len(capture.c2w))
    for camera in range(len(capture.c2w)):
        cameras += struct.pack("<iiQQ", camera + 1, COLMAP_MODELS[kind], *capture.size)
        cameras += struct.pack(f"<{len(parameters)}d", *parameters)
    images = colmap_images(capture)
    data = struct.pack("<Q", len(images))
    for number, pose, camera, name in images:
        data += struct.pack("<I7dI", number, *pose, camera) + name.encode() + b"\0"
        seen = [] if number % 4 else [(12.5, 13.25, 1), (40.0, 2.5, -1)]
        data += struct.pack("<Q", len(seen)) + b"".join(struct.pack("<ddq", *point) for point in seen)
    (model / "cameras.bin").write_bytes(cameras)
    (model / "images.bin").write_bytes(data)
    point = struct.pack("<Q3d3BdQ", 1, 0.1, 0.0, 0.3, 255, 0, 0, 0.4, 1) + struct.pack("<ii", 100, 0)
    (model / "points3D.bin").write_bytes(struct.pack("<Q", 1) + point)


def write_realestate10k(folder: Path, capture: Capture, name: str = "scene") -> None:
    """Beside the folder: a URL, then lines of microseconds, intrinsics relative to the size, two zeros, 3x4 w2c."""
    lines = ["https://www.youtube.com/watch?v=abc_DEF-123"]
    width, height = capture.size
    K = np.diag([1 / width, 1 / height, 1]) @ capture.K
    for index, pose in enumerate(capture.c2w):
        numbers = [K[0, 0], K[1, 1], K[0, 2], K[1, 2], 0, 0, *np.linalg.inv(pose)[:3].ravel()]
        lines.append(" ".join([str(round(index / FPS * 1e6)), *(f"{float(number):.17g}" for number in numbers)]))
    folder = folder.parent
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    pictures = [capture.picture(index, index) for index in range(len(capture.c2w))]
    write_film(folder / f"{name}.mp4", np.stack(pictures))


@dataclass(frozen=True)
class Format:
    """The writer of a format, and what the format supports."""

    name: str
    write: Callable[[Path, Capture], None]
    moving: bool
    """One moving camera instead of several static ones."""
    general: bool
    """Two focal lengths and an arbitrary principal point."""
    lens: bool
    """Distortion."""


FORMATS: Sequence[Format] = (
    Format("dnerf", write_dnerf, True, False, False),
    Format("dynerf", write_dynerf, False, False, False),
    Format("qualisys", write_qualisys, False, False, True),
    Format("nerfies", write_nerfies, False, True, True),
    Format("nerfstudio", write_nerfstudio, True, True, True),
    Format("colmap", write_colmap_text, False, True, True),
    Format("colmap", write_colmap_binary, False, True, True),
    Format("realestate10k", write_realestate10k, True, True, False),
)
