"""Turn posed pictures upright according to their EXIF orientation, and their cameras with them.

All formats follow one rule: a camera description refers to the stored pixels, as in COLMAP and tools based on it,
unless its width and height match only the upright picture. If the orientation also mirrors, only its rotation is
undone, because a camera cannot be mirrored: the result is upright, and mirrored like the stored pixels.
"""

from dataclasses import replace

import numpy as np

from fourdistill.geometry import camera as camera_geometry
from fourdistill.pictures import Header
from fourdistill.scene import Camera

MAX_PADDED = 0.02  # largest padded fraction of a picture or film that is a letterboxed copy of the calibrated one
_QUARTER_TURNS = {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 1, 7: 3, 8: 3}  # clockwise, by EXIF orientation
MIRRORED = (2, 4, 5, 7)


def is_copy(camera: Camera, size: tuple[int, int]) -> bool:
    """Whether an image of `size` (width, height) may be a resized or letterboxed copy of the calibrated one."""
    return camera_geometry.letterbox(camera.K, camera.size, size)[1] <= MAX_PADDED


def is_of_upright(camera: Camera, header: Header) -> bool:
    """Whether a camera description refers to the upright picture rather than to the stored pixels."""
    return header.orientation == 1 or (is_copy(camera, header.upright_size) and not is_copy(camera, header.size))


def upright_camera(camera: Camera, header: Header) -> tuple[Camera, bool]:
    """A picture's described camera => the camera of the upright picture, and whether that must be mirrored again."""
    if is_of_upright(camera, header):
        return camera, False
    for _ in range(_QUARTER_TURNS[header.orientation]):
        camera = _turned(camera)
    return camera, header.orientation in MIRRORED


def _turned(camera: Camera) -> Camera:
    """A camera turned clockwise by 90 degrees about its axis, like its picture."""
    K, turned_from_camera = camera_geometry.turn(camera.K, camera.size)
    c2w = camera.c2w.copy()
    c2w[:3, :3] = c2w[:3, :3] @ turned_from_camera.T
    lens = camera.distortion
    if lens is not None:  # k1, k2, k3 are radially symmetric; (p2, p1) is a direction and turns
        k1, k2, p1, p2, *rest = lens
        lens = (k1, k2, p2, -p1, *rest)
    return replace(camera, K=np.asarray(K), size=camera.size[::-1], c2w=c2w, distortion=lens)
