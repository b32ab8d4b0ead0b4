"""Posed pictures that lie on their side: the picture is turned upright, and its camera along with it.

One rule for every format: a description speaks of the pixels as they are stored, as COLMAP and what builds on it see
them, unless its width and height are those of the upright picture alone. An EXIF orientation that mirrors is undone as
far as a camera can be turned, which is not mirrored: the picture is upright then, and mirrored as its description is.
"""

from dataclasses import replace

import numpy as np

from fourdistill.geometry import camera as camera_geometry
from fourdistill.pictures import Header
from fourdistill.scene import Camera

MAX_PADDED = 0.02  # of a picture or film that is a letterboxed copy of what was calibrated
_QUARTER_TURNS = {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 1, 7: 3, 8: 3}  # clockwise, by EXIF orientation
MIRRORED = (2, 4, 5, 7)


def is_copy(camera: Camera, size: tuple[int, int]) -> bool:
    """Whether an image of `size` (width, height) may be a resized, perhaps letterboxed copy of what was calibrated."""
    return camera_geometry.letterbox(camera.K, camera.size, size)[1] <= MAX_PADDED


def is_of_upright(camera: Camera, header: Header) -> bool:
    """Whether a description speaks of the upright picture rather than of the pixels as stored."""
    return header.orientation == 1 or (is_copy(camera, header.upright_size) and not is_copy(camera, header.size))


def upright_camera(camera: Camera, header: Header) -> tuple[Camera, bool]:
    """A picture's camera as described => that of the upright picture, and whether it has to be mirrored again."""
    if is_of_upright(camera, header):
        return camera, False
    for _ in range(_QUARTER_TURNS[header.orientation]):
        camera = _turned(camera)
    return camera, header.orientation in MIRRORED


def _turned(camera: Camera) -> Camera:
    """A camera turned clockwise by a quarter about its axis, as its picture is."""
    K, turned_from_camera = camera_geometry.turn(camera.K, camera.size)
    c2w = camera.c2w.copy()
    c2w[:3, :3] = c2w[:3, :3] @ turned_from_camera.T
    lens = camera.distortion
    if lens is not None:  # k1, k2, k3 know no direction; (p2, p1) is one, and turns
        k1, k2, p1, p2, *rest = lens
        lens = (k1, k2, p2, -p1, *rest)
    return replace(camera, K=np.asarray(K), size=camera.size[::-1], c2w=c2w, distortion=lens)
