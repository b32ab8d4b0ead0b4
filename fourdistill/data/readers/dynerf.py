"""Reader of the Neural 3D Video (DyNeRF) layout: synchronised videos and one LLFF pose file.

::

    <folder>/<scene>/cam00.mp4 cam01.mp4 ...   numbers may have gaps
                     poses_bounds.npy          (N, 17) float, one row per video in sorted order
                     sync.csv                  optional: camera, offset_s; seconds to add to a camera's times
                     caption.txt               optional

`<folder>` may also be one such scene itself. A row is a 3x5 matrix, row by row, then near and far depth. Columns 0-3
are c2w with axes (down, right, back); column 4 is (height, width, focal length) in pixels. The principal point is the
image centre, and there is no distortion. Units are the source's own (COLMAP's for the published scenes).
Times are the containers' presentation times. There is no split; the published scenes are tested on cam00.
"""

from pathlib import Path

import numpy as np

from fourdistill.data.readers.listing import list_scene_folders, list_videos, read_caption, read_offsets
from fourdistill.data.readers.parsing import check_lens, check_pose, check_size, read_array
from fourdistill.data.scene import Camera, Scene, Video
from fourdistill.errors import InputError
from fourdistill.geometry.camera import intrinsics
from fourdistill.geometry.poses import llff_to_opencv

POSES = "poses_bounds.npy"


def read_dynerf(folder: Path) -> list[Scene]:
    """One scene per folder that holds videos and `poses_bounds.npy`."""
    return [_read_scene(scene) for scene in list_scene_folders(folder, is_scene=(folder / POSES).exists())]


def _read_scene(folder: Path) -> Scene:
    paths = list_videos(folder)
    if not paths:
        raise InputError(f"{folder}: expected videos cam00.mp4, cam01.mp4, ... and {POSES}, found no video")
    cameras = _read_cameras(folder / POSES, len(paths))
    offsets = read_offsets(folder, [path.stem for path in paths])
    videos = tuple(
        Video(path.stem, path, camera, offsets[path.stem]) for path, camera in zip(paths, cameras, strict=True)
    )
    return Scene(folder.name, videos, read_caption(folder / "caption.txt"), pose_source=POSES)


def _read_cameras(path: Path, num_videos: int) -> list[Camera]:
    if not path.is_file():
        raise InputError(f"{path}: expected an (N, 17) pose file beside the videos, found none")
    rows = read_array(path)
    if rows.ndim != 2 or rows.shape[1] != 17 or rows.dtype.kind != "f":
        raise InputError(f"{path}: expected floats of shape (N, 17), found {rows.dtype} {rows.shape}")
    if len(rows) != num_videos:
        raise InputError(f"{path}: expected {num_videos} rows, one per video of the folder, found {len(rows)}")
    matrices = rows[:, :15].astype(np.float64).reshape(-1, 3, 5)
    c2w = llff_to_opencv(matrices[:, :, :4])
    cameras = []
    for row, (pose, (height, width, focal)) in enumerate(zip(c2w, matrices[:, :, 4], strict=True)):
        where = f"{path}: row {row}"
        check_pose(pose, where)
        if not np.isfinite([height, width, focal]).all():
            raise InputError(f"{where}: expected finite height, width and focal length in pixels")
        size = check_size((round(float(width)), round(float(height))), where)
        K = check_lens(intrinsics(focal, focal, width / 2, height / 2), where)
        cameras.append(Camera(K, size, pose))
    return cameras
