"""A corner of a room with textured walls, rendered from any camera, for structure from motion."""

import cv2
import numpy as np
from PIL import Image

SIZE = (320, 240)
K = np.array([[260.0, 0, 160], [0, 260, 120], [0, 0, 1]])
TEXTURE = 512  # pixels per side of a wall
WALLS = {  # a corner and two sides
    "floor": ((-2, -2, 0), (4, 0, 0), (0, 4, 0)),
    "back": ((-2, 2, 0), (4, 0, 0), (0, 0, 3)),
    "left": ((-2, -2, 0), (0, 4, 0), (0, 0, 3)),
    "board": ((-0.6, -0.6, 0.9), (1.2, 0, 0), (0, 1.2, 0.3)),
}


def photograph(c2w: np.ndarray) -> Image.Image:
    """The room seen from c2w (4, 4), OpenCV axes, z up in the world, with `K` at `SIZE`."""
    width, height = SIZE
    rows, columns = np.mgrid[:height, :width] + 0.5
    rays = np.stack([columns, rows, np.ones_like(rows)], -1) @ np.linalg.inv(K).T @ c2w[:3, :3].T  # (H, W, 3)
    eye = c2w[:3, 3]
    nearest = np.full((height, width), np.inf)
    image = np.zeros((height, width, 3), np.uint8)
    for number, sides in enumerate(WALLS.values()):
        corner, u, v = (np.array(side, float) for side in sides)
        normal = np.cross(u, v)
        depth = ((corner - eye) @ normal) / (rays @ normal)  # (H, W)
        on_wall = eye + rays * depth[..., None] - corner
        a, b = on_wall @ u / (u @ u), on_wall @ v / (v @ v)  # in [0, 1] on the wall
        hit = (depth > 0.05) & (a >= 0) & (a <= 1) & (b >= 0) & (b <= 1) & (depth < nearest)
        x, y = (share.astype(np.float32) * (TEXTURE - 1) for share in (a, b))
        paint = cv2.remap(_texture(number), x, y, cv2.INTER_LINEAR)
        image[hit], nearest[hit] = paint[hit], depth[hit]
    return Image.fromarray(image)


def orbit(num: int, first_deg: float = -60, last_deg: float = -20) -> np.ndarray:
    """c2w (num, 4, 4) of cameras around the centre of the room."""
    azimuth = np.radians(np.linspace(first_deg, last_deg, num))
    eyes = np.stack([3.2 * np.cos(azimuth), 3.2 * np.sin(azimuth), np.full(num, 1.8)], 1)
    forward = np.array([0, 0.3, 0.8]) - eyes
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    c2w = np.tile(np.eye(4), (num, 1, 1))
    c2w[:, :3, :3] = np.stack([right, np.cross(forward, right), forward], axis=-1)
    c2w[:, :3, 3] = eyes
    return c2w


def _texture(seed: int) -> np.ndarray:
    """Noise of several scales (TEXTURE, TEXTURE, 3) uint8."""
    rng = np.random.default_rng(seed)
    octaves = [rng.random((cells, cells, 3)).astype(np.float32) for cells in (16, 48, 128)]
    mixed = sum(cv2.resize(octave, (TEXTURE, TEXTURE), interpolation=cv2.INTER_CUBIC) for octave in octaves)
    return (np.clip(mixed / 3, 0, 1) * 255).astype(np.uint8)
