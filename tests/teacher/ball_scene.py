"""A ray-traced coloured ball that crosses a floor, with its shadow: six cameras, four instants, 32 pixels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fourdistill.geometry.camera import intrinsics
from fourdistill.geometry.poses import compose
from fourdistill.teacher.pixel_rays import pixel_rays
from fourdistill.teacher.scene_images import SceneImages, pose_images

SIZE, RADIUS, DISTANCE = 32, 0.4, 4.0
TIMES = np.linspace(0, 1, 4)
K = intrinsics(40, 40, SIZE / 2, SIZE / 2)
BACKDROP = np.array([0.9, 0.9, 0.95])


def ball_center(time: float) -> np.ndarray:
    return np.array([0.6 * time - 0.3, RADIUS + 0.1, 0.0])  # y is up, the floor at 0


def camera_pose(azimuth: float, elevation: float = 0.5) -> np.ndarray:
    """A camera that looks at (0, 0.5, 0), y up."""
    offset = DISTANCE * np.array(
        [np.cos(elevation) * np.cos(azimuth), np.sin(elevation), np.cos(elevation) * np.sin(azimuth)]
    )
    forward = -offset / DISTANCE
    right = np.cross(forward, [0, 1, 0])
    right = right / np.linalg.norm(right)
    return compose(np.stack([right, np.cross(forward, right), forward], 1), offset + np.array([0, 0.5, 0]))


def trace(c2w: np.ndarray, time: float) -> np.ndarray:
    """The picture (32, 32, 3); the ball's colour depends on its normal, its shadow is beside it."""
    origin, directions = pixel_rays(K, c2w, (SIZE, SIZE))
    to_floor = -origin[1] / directions[:, 1]
    hit = origin + to_floor[:, None] * directions
    lit = 0.8 - 0.02 * np.hypot(hit[:, 0], hit[:, 2])
    center = ball_center(time)
    in_shadow = np.hypot(hit[:, 0] - center[0], hit[:, 2] - center[2] - 0.7) < RADIUS
    floor = (lit * np.where(in_shadow, 0.75, 1))[:, None].repeat(3, 1)
    on_floor = (to_floor > 0) & (np.abs(hit[:, [0, 2]]) < 2).all(1)
    picture = np.where(on_floor[:, None], floor, BACKDROP)
    along = (center - origin) @ directions.T
    inside = RADIUS**2 - (np.sum((center - origin) ** 2) - along**2)
    normal = (origin + (along - np.sqrt(np.maximum(inside, 0)))[:, None] * directions - center) / RADIUS
    color = np.clip(np.array([0.7, 0.2, 0.2]) + 0.3 * normal, 0, 1)
    return np.where((inside > 0)[:, None], color, picture).reshape(SIZE, SIZE, 3).astype(np.float32)


def ball_scene(shown: np.ndarray = TIMES) -> SceneImages:
    """`shown`: where the ball is at each instant, as a time."""
    poses = np.stack([camera_pose(azimuth) for azimuth in np.arange(6) * np.pi / 3])
    images = np.stack([np.stack([trace(pose, time) for time in shown]) for pose in poses])
    c2w = np.broadcast_to(poses[:, None], (6, 4, 4, 4))
    names = [f"cam{index}" for index in range(6)]
    return pose_images(names, images, np.broadcast_to(K, (6, 4, 3, 3)), c2w, TIMES)


def write_ball(folder: Path, name: str = "ball", cameras: Sequence[int] = range(6), split: str = "train") -> list[dict]:
    """Write the frames of some cameras as JPEGs to `folder/frames`; return their rows of the frames table."""
    scene, rows = ball_scene(), []
    for camera in cameras:
        place = folder / "frames" / name / f"cam{camera}"
        place.mkdir(parents=True)
        for index, time in enumerate(TIMES):
            picture = np.rint(scene.images[camera, index] * 255).astype(np.uint8)
            Image.fromarray(picture).save(place / f"{index:06d}.jpg", quality=100, subsampling=0)
            rows.append(
                {
                    "scene": name,
                    "camera": f"cam{camera}",
                    "frame_index": index,
                    "timestamp_s": float(time),
                    "time": float(time),
                    "path": f"{name}/cam{camera}/{index:06d}.jpg",
                    "width": SIZE,
                    "height": SIZE,
                    "K": K.ravel().tolist(),
                    "c2w": camera_pose(camera * np.pi / 3).ravel().tolist(),
                    "caption": "a ball",
                    "split": split,
                }
            )
    return rows
