"""Tiny real scenes: videos of a few 32-pixel frames, cameras on a ring, in formats that the readers support."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from fourdistill.geometry.poses import compose

SIZE = 32
TIME_BASE = 1000  # ticks per second in the videos written here


def ring_cameras(num: int, radius: float = 3.0, elevation: float = 0.3, center=(0.0, 0.0, 0.0)) -> np.ndarray:
    """c2w (num, 4, 4) of cameras that look at `center`, z up, evenly around it, counter-clockwise from above."""
    azimuth = 2 * np.pi * np.arange(num) / num
    direction = np.stack(
        [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.full(num, np.sin(elevation))], 1
    )
    forward = -direction
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    down = np.cross(forward, right)
    return compose(np.stack([right, down, forward], axis=-1), np.asarray(center) + radius * direction)


def gray_film(levels: Sequence[int], size: tuple[int, int] = (SIZE, SIZE)) -> np.ndarray:
    """Frames (N, H, W, 3) of one gray level each, so that the mean identifies a frame; size is (width, height)."""
    return np.stack([np.full((size[1], size[0], 3), level, np.uint8) for level in levels])


def write_film(
    path: Path, frames: np.ndarray, times_s: Sequence[float] | None = None, codec: str = "libx264", **options: str
) -> None:
    """Encode uint8 frames (N, H, W, 3); frame i is shown at `times_s[i]`, by default at i/8 s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times_s = [index / 8 for index in range(len(frames))] if times_s is None else times_s
    container_options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=container_options) as container:
        stream: Any = container.add_stream(codec, rate=TIME_BASE, options={"crf": "1"} | options)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, TIME_BASE)
        stream.thread_count = 1
        for image, time_s in zip(frames, times_s, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(time_s * TIME_BASE), Fraction(1, TIME_BASE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def truncate(path: Path, keep: float = 0.7) -> None:
    """Truncate a file, like an interrupted download."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def poses_bounds(c2w: np.ndarray, size: tuple[int, int] = (SIZE, SIZE), focal: float = 40.0) -> np.ndarray:
    """OpenCV c2w (N, 4, 4) => the (N, 17) rows of `poses_bounds.npy`: columns down, right, back, centre, hwf."""
    right, down, forward, center = (c2w[:, :3, column] for column in range(4))
    hwf = np.broadcast_to([size[1], size[0], focal], center.shape)
    matrices = np.stack([down, right, -forward, center, hwf], axis=-1)  # (N, 3, 5)
    return np.concatenate([matrices.reshape(len(c2w), 15), np.tile([0.1, 10.0], (len(c2w), 1))], axis=1)


def write_dynerf(
    folder: Path, num_cameras: int = 4, num_frames: int = 8, caption: str | None = "a gray wall", seed: int = 0
) -> Path:
    """A DyNeRF scene with cameras on a ring; frame i of camera c has gray level 10 + 20 i + c."""
    folder.mkdir(parents=True, exist_ok=True)
    for camera in range(num_cameras):
        levels = [10 + 20 * index + camera for index in range(num_frames)]
        write_film(folder / f"cam{camera:02d}.mp4", gray_film(levels))
    np.save(folder / "poses_bounds.npy", poses_bounds(ring_cameras(num_cameras, elevation=0.3 + 0.1 * seed)))
    if caption:
        (folder / "caption.txt").write_text(caption + "\n")
    return folder


def qualisys_xml(
    c2w: np.ndarray, size: tuple[int, int], focal: float, distortion: Sequence[float] = (0, 0, 0, 0), skew: float = 0
) -> str:
    """A `*.qca.txt` whose cameras are cam01, cam02, ...: OpenCV c2w (N, 4, 4) in metres, principal point central."""
    cameras = []
    for number, pose in enumerate(c2w, start=1):
        rotation = np.diag([1.0, -1.0, -1.0]) @ pose[:3, :3].T
        entries = " ".join(f'r{i + 1}{j + 1}="{rotation[i, j]:.17g}"' for i in range(3) for j in range(3))
        x, y, z = pose[:3, 3] * 1000
        k1, k2, p1, p2 = distortion
        cameras.append(
            f'<camera serial="cam{number:02d}">'
            f'<fov_video left="0" top="0" right="{size[0] - 1}" bottom="{size[1] - 1}"/>'
            f'<transform {entries} x="{x:.17g}" y="{y:.17g}" z="{z:.17g}"/>'
            f'<intrinsic focalLengthU="{focal * 64}" focalLengthV="{focal * 64}" skew="{skew}" '
            f'centerPointU="{(size[0] / 2 - 0.5) * 64}" centerPointV="{(size[1] / 2 - 0.5) * 64}" '
            f'radialDistortion1="{k1}" radialDistortion2="{k2}" radialDistortion3="0" '
            f'tangentalDistortion1="{p1}" tangentalDistortion2="{p2}"/></camera>'
        )
    return f"<calibration><cameras>{''.join(cameras)}</cameras></calibration>"
