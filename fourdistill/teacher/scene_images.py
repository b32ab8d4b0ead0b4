"""The posed frames of one scene, all cameras at all instants, in the scene's own frame.

The teacher uses the coordinate frame of `fit_scene_frame`: its axes are east, north and up, its origin is the centre,
and its unit is the cameras' median distance. Lengths in the teacher thus do not depend on the units of the source.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from fourdistill.errors import InputError
from fourdistill.geometry.poses import compose
from fourdistill.geometry.scene_frame import SceneFrame, fit_scene_frame
from fourdistill.tables import FRAMES, read_table, to_matrices

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SceneImages:
    """`images` (C, N, H, W, 3) float32 in [0, 1]; `K` (C, N, 3, 3) pixels; `c2w` (C, N, 4, 4) in the scene's frame.

    `times` (N,) increase within [0, 1]; `cameras` are C names; `frame` converts the source's poses to `c2w`.
    """

    cameras: tuple[str, ...]
    images: NDArray[np.float32]
    K: Floats
    c2w: Floats
    times: Floats
    frame: SceneFrame

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.images.shape[2], self.images.shape[3]

    def without(self, cameras: Sequence[str] = (), instants: Sequence[int] = ()) -> "SceneImages":
        """The same scene without some cameras and some instants (indices of `times`); its frame is unchanged."""
        kept = [index for index, name in enumerate(self.cameras) if name not in cameras]
        instants_kept = [index for index in range(len(self.times)) if index not in instants]
        if not kept or len(instants_kept) < 2:
            raise InputError(f"teacher: expected a camera and two instants to be left, found {len(kept)} cameras")
        cells = np.ix_(kept, instants_kept)
        names = tuple(self.cameras[index] for index in kept)
        times = self.times[instants_kept]
        return replace(
            self, cameras=names, images=self.images[cells], K=self.K[cells], c2w=self.c2w[cells], times=times
        )


def to_scene_frame(frame: SceneFrame, c2w: ArrayLike) -> Floats:
    """Poses (..., 4, 4) in the source's units => poses in the scene's frame, where the scene's scale is 1."""
    c2w = np.asarray(c2w, np.float64)
    center = (c2w[..., :3, 3] - frame.center) @ frame.axes.T / frame.scale
    return compose(frame.axes @ c2w[..., :3, :3], center)


def pose_images(
    cameras: Sequence[str], images: NDArray[np.float32], K: ArrayLike, c2w: ArrayLike, times: ArrayLike
) -> SceneImages:
    """Frames (C, N, H, W, 3), K (C, N, 3, 3) and c2w (C, N, 4, 4) in the source's units => the scene's images."""
    c2w = np.asarray(c2w, np.float64)
    frame = fit_scene_frame(c2w.reshape(-1, 4, 4))
    if frame is None:
        raise InputError("teacher: expected cameras that look at one place, found parallel ones")
    K, times = np.asarray(K, np.float64), np.asarray(times, np.float64)
    return SceneImages(tuple(cameras), images, K, to_scene_frame(frame, c2w), times, frame)


def read_scene(frames: Path, frames_table: Path, scene: str) -> SceneImages:
    """Read the frames of one scene from the frames table; instants that a camera lacks are left out.

    Raises `InputError` if the scene is unknown, lacks poses, or has fewer than two instants that all cameras share.
    """
    columns = ["scene", "camera", "frame_index", "time", "path", "K", "c2w"]
    table = read_table(frames_table, FRAMES, columns)
    table = table.filter(np.asarray(table["scene"]) == scene)
    if not len(table):
        raise InputError(f"{frames_table}: scene: expected {scene}, found no frame of it")
    K, c2w = to_matrices(table["K"], (3, 3)), to_matrices(table["c2w"], (4, 4))
    if not (np.isfinite(K).all() and np.isfinite(c2w).all()):
        raise InputError(f"{frames_table}: scene {scene}: c2w: expected a pose of every frame, found none of some")
    cells = zip(table["camera"].to_pylist(), table["frame_index"].to_pylist(), strict=True)
    rows = {cell: row for row, cell in enumerate(cells)}
    cameras, numbers = sorted({camera for camera, _ in rows}), sorted({number for _, number in rows})
    instants = [number for number in numbers if all((camera, number) in rows for camera in cameras)]
    if len(instants) < 2:
        raise InputError(f"{frames_table}: scene {scene}: expected two instants that all cameras share, found fewer")
    grid = np.array([[rows[camera, number] for number in instants] for camera in cameras])  # (C, N)
    paths = table["path"].to_pylist()
    images = np.stack([np.stack([_read_image(frames / paths[row]) for row in line]) for line in grid])
    return pose_images(cameras, images, K[grid], c2w[grid], np.asarray(table["time"], np.float64)[grid[0]])


def _read_image(path: Path) -> NDArray[np.float32]:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"), np.float32) / np.float32(255)
    except OSError as error:
        raise InputError(f"{path}: expected a picture, found none that can be read") from error
