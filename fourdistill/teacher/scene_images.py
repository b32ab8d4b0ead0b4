"""The posed frames of one scene, all cameras at all instants, in the scene's own frame.

The teacher uses the coordinate frame of `fit_scene_frame`: its axes are east, north and up, its origin is the centre,
and its unit is the cameras' median distance. Lengths in the teacher thus do not depend on the units of the source.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from fourdistill.errors import InputError
from fourdistill.geometry.poses import compose
from fourdistill.geometry.scene_frame import SceneFrame, fit_scene_frame
from fourdistill.storage.store import Store
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
    cameras: Sequence[str],
    images: NDArray[np.float32],
    K: ArrayLike,
    c2w: ArrayLike,
    times: ArrayLike,
    frame: SceneFrame | None = None,
) -> SceneImages:
    """Frames (C, N, H, W, 3), K (C, N, 3, 3) and c2w (C, N, 4, 4) in the source's units => the scene's images.

    `frame` is the scene's; None: fit it to these poses.
    """
    c2w = np.asarray(c2w, np.float64)
    frame = fit_scene_frame(c2w.reshape(-1, 4, 4)) if frame is None else frame
    if frame is None:
        raise InputError("teacher: expected cameras that look at one place, found parallel ones")
    K, times = np.asarray(K, np.float64), np.asarray(times, np.float64)
    return SceneImages(tuple(cameras), images, K, to_scene_frame(frame, c2w), times, frame)


def camera_grid(rows: pa.Table) -> tuple[list[str], NDArray[np.int64]]:
    """The rows of one scene => its C cameras, and the rows (C, N) of the instants that all of them share."""
    cells = zip(rows["camera"].to_pylist(), rows["frame_index"].to_pylist(), strict=True)
    found = {cell: row for row, cell in enumerate(cells)}
    cameras, numbers = sorted({camera for camera, _ in found}), sorted({number for _, number in found})
    shared = [number for number in numbers if all((camera, number) in found for camera in cameras)]
    if len(shared) < 2:
        raise InputError(f"frame_index: expected two instants that all {len(cameras)} cameras share, found fewer")
    return cameras, np.array([[found[camera, number] for number in shared] for camera in cameras])


def scene_images(rows: pa.Table, pictures: Sequence[bytes], frame: SceneFrame | None = None) -> SceneImages:
    """The rows of one scene and the file of each => its images; instants that a camera lacks are left out.

    Raises `InputError` if poses are missing, or fewer than two instants are shared by all cameras.
    """
    K, c2w = to_matrices(rows["K"], (3, 3)), to_matrices(rows["c2w"], (4, 4))
    if not (np.isfinite(K).all() and np.isfinite(c2w).all()):
        raise InputError("c2w: expected a pose of every frame, found none of some")
    cameras, grid = camera_grid(rows)
    paths, times = rows["path"].to_pylist(), np.asarray(rows["time"], np.float64)
    images = np.stack([np.stack([_decode(pictures[row], paths[row]) for row in line]) for line in grid])
    return pose_images(cameras, images, K[grid], c2w[grid], times[grid[0]], frame)


def read_pictures(frames: Store, rows: pa.Table) -> list[bytes]:
    """The files of some rows of a frames table; raises `InputError` if one is missing."""
    read = partial(frames.read, expected="a frame of extract_frames")
    return list(frames.each(read, rows["path"].to_pylist()))


def read_scene(frames: Path, frames_table: Path, scene: str) -> SceneImages:
    """The images of one scene of the frames table; raises `InputError` as `scene_images`, or if it is unknown."""
    table = read_table(frames_table, FRAMES)
    rows = table.filter(np.asarray(table["scene"]) == scene)
    if not len(rows):
        raise InputError(f"{frames_table}: scene: expected {scene}, found no frame of it")
    return scene_images(rows, read_pictures(Store(str(frames)), rows))


def _decode(picture: bytes, path: str) -> NDArray[np.float32]:
    try:
        with Image.open(BytesIO(picture), formats=["JPEG"]) as image:
            return np.asarray(image.convert("RGB"), np.float32) / np.float32(255)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow
        raise InputError(f"{path}: expected a picture, found none that can be read") from error
