"""Reader of the RealEstate10K layout (Zhou et al. 2018): one moving camera with a pose for every frame of a clip.

::

    <folder>/<clip>.txt         or in train/ and test/, which then define the split, or in other folders
             <clip>.mp4         the film of the clip, or
             <clip>/<us>.jpg    its frames, named after their times in microseconds

Line 1 is an address. Every other line is: time in microseconds, fx / width, fy / height, cx / width, cy / height, k1,
k2, and the 12 numbers of the 3x4 matrix from world to camera with OpenCV axes, in row-major order, in the scale of
structure from motion. The lens is ideal: a clip with nonzero k1 or k2 is rejected, because their units are unknown. An
unusable clip, a clip without its film, and a missing frame are counted as bad. In a film, each pose is assigned to the
nearest frame in time; frames without a pose stay unposed.
"""

from functools import partial
from pathlib import Path

import numpy as np

from fourdistill.errors import InputError, one_line
from fourdistill.geometry.camera import intrinsics
from fourdistill.geometry.poses import compose, inverse
from fourdistill.scene import Camera, Film, Picture, Pictures, Scene, Video
from fourdistill.sources.formats import Format
from fourdistill.sources.readers.listing import (
    check_name,
    find_visible,
    list_videos,
    read_each,
    scene_folders,
    usable,
    visible,
)
from fourdistill.sources.readers.parsing import check_lens, check_pose, locate, picture_size, read_text
from fourdistill.sources.readers.posed_pictures import ENDINGS, ONLY_CAMERA
from fourdistill.video.probe import VideoError, shown_size

_SPLITS = ("train", "test")
_COLUMNS = 19
_ADDRESS = b"http"  # how a clip begins
_MICROSECONDS = 1e6
Poses = list[tuple[int, np.ndarray, np.ndarray]]  # time in microseconds, (fx, fy, cx, cy) over the size, c2w


def read_realestate10k(folder: Path) -> list[Scene]:
    """One scene per text file, named after it."""
    places = [folder / name for name in _SPLITS if (folder / name).is_dir()]
    if not places:
        places = [folder] if _texts(folder) else scene_folders(folder)
    scenes: list[Scene] = []
    errors: list[InputError] = []
    for place in places:
        check_name(place)
        videos = {video.stem: video for video in list_videos(place)}  # listed once: there may be tens of thousands
        read = partial(_read_scene, videos=videos, split=place.name if place.name in _SPLITS else None)
        found, wrong = read_each(_texts(place), read)
        scenes += found
        errors += wrong
    if not scenes:
        raise InputError(f"{folder}: expected <clip>.txt beside <clip>.mp4 or <clip>/, found none")
    return usable(scenes, errors, folder)


def _texts(folder: Path) -> list[Path]:
    return [path for path in visible(folder) if path.suffix == ".txt" and not path.is_dir()]


def _read_scene(path: Path, videos: dict[str, Path], split: str | None) -> Scene:
    poses, video = _read_poses(path), videos.get(path.stem)
    pictures_dir = path.with_suffix("")
    if pictures_dir.is_dir():
        film = _pictures(path, pictures_dir, poses)
    elif video is not None:
        film = _video(video, poses)
    else:
        raise InputError(f"{path}: expected its film (.mp4 ...) or a folder of its frames beside it, found neither")
    return Scene(path.stem, (film,), split=split, pose_source=path.name)


def _read_poses(path: Path) -> Poses:
    poses: Poses = []
    for number, line in enumerate(read_text(path, "a RealEstate10K clip").splitlines()[1:], start=2):
        where, words = f"{path}: line {number}", line.split()
        if not words:
            continue
        try:
            time_us, values = int(words[0]), np.array(words[1:], np.float64)
        except ValueError as error:
            raise InputError(f"{where}: expected numbers: {one_line(error, 200)}") from error
        if len(words) != _COLUMNS or not 0 <= time_us < 1 << 53:
            raise InputError(f"{where}: expected {_COLUMNS} numbers, the first a time, found {len(words)}")
        if poses and time_us <= poses[-1][0]:
            raise InputError(f"{where}: expected a time after that of the line before")
        rotation, translation = np.split(values[6:].reshape(3, 4), [3], axis=1)
        w2c = check_pose(compose(rotation, translation[:, 0]), where)
        check_lens(intrinsics(*values[:4]), where)
        if values[4:6].any():
            raise InputError(f"{where}: k1, k2: expected 0, found {values[4]:g} and {values[5]:g}")
        poses.append((time_us, values[:4], inverse(w2c)))
    if not poses:
        raise InputError(f"{path}: expected lines of poses after the address, found none")
    return poses


def _pictures(path: Path, folder: Path, poses: Poses) -> Pictures:
    """The frames of a clip; a missing one gets the size of the others, and its extraction reports the error."""
    files = [locate(folder, str(time_us), path, ENDINGS) for time_us, _, _ in poses]
    sizes = [picture_size(file) for file in files]
    usual = next(filter(None, sizes), None)
    pictures = []
    for index, ((time_us, lens, c2w), file, size) in enumerate(zip(poses, files, sizes, strict=True)):
        size = size or usual
        camera = None if size is None else _camera(lens, size, c2w)
        pictures.append(Picture(file, index, time_us / _MICROSECONDS, camera))
    return Pictures(ONLY_CAMERA, path, tuple(pictures))


def _video(path: Path, poses: Poses) -> Film:
    try:
        size = shown_size(path)
    except VideoError:
        return Video(ONLY_CAMERA, path)  # the extraction reports the error
    track = tuple((time_us / _MICROSECONDS, _camera(lens, size, c2w)) for time_us, lens, c2w in poses)
    return Video(ONLY_CAMERA, path, track=track)


def _camera(lens: np.ndarray, size: tuple[int, int], c2w: np.ndarray) -> Camera:
    fx, fy, cx, cy = lens * [size[0], size[1], size[0], size[1]]
    return Camera(intrinsics(fx, fy, cx, cy), size, c2w)


def _holds_clips(folder: Path) -> bool:
    """Whether the first text in a folder, or in the folders in it, begins as a clip does."""
    texts = (path for pattern in ("*.txt", "*/*.txt") for path in find_visible(folder, pattern))
    first = next((path for path in texts if path.is_file()), None)
    if first is None:
        return False
    with first.open("rb") as file:
        return file.read(len(_ADDRESS)) == _ADDRESS


FORMAT = Format(read_realestate10k, _holds_clips)
