"""Reader of the Neural 3D Video (DyNeRF) layout: synchronised videos and one LLFF pose file.

::

    <folder>/<scene>/cam00.mp4 cam01.mp4 ...   numbers may have gaps
                     poses_bounds.npy          (N, 17) float, one row per video in sorted order
                     sync.csv                  optional: camera, offset_s; seconds to add to a camera's times
                     caption.txt               optional

`<folder>` may also be one such scene itself. A row is a 3x5 matrix in row-major order, then near and far depth.
Columns 0-3 are c2w with axes (down, right, back); column 4 is (height, width, focal length) in pixels. The principal
point is the image centre, and there is no distortion. A video with an invalid row is counted as bad. Units are those
of the source (COLMAP's for the published scenes). Times are the containers' presentation times. There is no split; the
published scenes are tested on cam00.
"""

from pathlib import Path

import numpy as np

from fourdistill.errors import InputError
from fourdistill.geometry.camera import intrinsics
from fourdistill.geometry.poses import llff_to_opencv
from fourdistill.scene import Camera, Scene, Video
from fourdistill.sources.formats import Format
from fourdistill.sources.readers.listing import (
    VIDEO_SUFFIXES,
    list_videos,
    marked_by,
    read_caption,
    read_offsets,
    read_scenes,
)
from fourdistill.sources.readers.parsing import check_lens, check_pose, check_size, read_array
from fourdistill.sources.readers.pieces import Pieces

POSES = "poses_bounds.npy"


def read_dynerf(folder: Path) -> list[Scene]:
    """One scene per folder with videos and `poses_bounds.npy`."""
    return read_scenes(folder, (folder / POSES).exists(), VIDEO_SUFFIXES, _read_scene)


def _read_scene(folder: Path) -> Scene:
    paths = list_videos(folder)
    if not paths:
        raise InputError(f"{folder}: expected videos cam00.mp4, cam01.mp4, ... and {POSES}, found no video")
    rows = _read_rows(folder / POSES, len(paths))
    offsets = read_offsets(folder, [path.stem for path in paths])
    videos: list[Video] = []
    pieces = Pieces()
    for number, (path, row) in enumerate(zip(paths, rows, strict=True)):
        with pieces.reading(path):
            camera = _read_camera(row, f"{folder / POSES}: row {number}")
            videos.append(Video(path.stem, path, camera, offsets[path.stem]))
    bad, caption = pieces.bad(), read_caption(folder / "caption.txt")
    return Scene(folder.name, tuple(videos), caption, pose_source=POSES, bad=bad)


def _read_rows(path: Path, num_videos: int) -> np.ndarray:
    """The 3x5 matrices of the file, flat (N, 15), one per video."""
    if not path.is_file():
        raise InputError(f"{path}: expected an (N, 17) pose file beside the videos, found none")
    rows = read_array(path)
    if rows.ndim != 2 or rows.shape[1] != 17 or rows.dtype.kind != "f":
        raise InputError(f"{path}: expected floats of shape (N, 17), found {rows.dtype} {rows.shape}")
    if len(rows) != num_videos:
        raise InputError(f"{path}: expected {num_videos} rows, one per video of the folder, found {len(rows)}")
    return rows[:, :15].astype(np.float64)


def _read_camera(row: np.ndarray, where: str) -> Camera:
    matrix = row.reshape(3, 5)
    pose = check_pose(llff_to_opencv(matrix[:, :4]), where)
    height, width, focal = matrix[:, 4]
    if not np.isfinite([height, width, focal]).all():
        raise InputError(f"{where}: expected finite height, width and focal length in pixels")
    size = check_size((round(float(width)), round(float(height))), where)
    return Camera(check_lens(intrinsics(focal, focal, width / 2, height / 2), where), size, pose)


FORMAT = Format(read_dynerf, marked_by(POSES))
