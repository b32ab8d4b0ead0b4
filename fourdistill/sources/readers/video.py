"""Reader of plain films with unknown cameras: they give only time pairs, unless their poses are estimated.

::

    <folder>/<scene>.mp4         or another FFmpeg format (`VIDEO_SUFFIXES`): a scene with one camera, cam00
             <scene>.txt         optional caption
    <folder>/<scene>/*.mp4       a scene with several cameras, named after the files
                     sync.csv    optional: camera, offset_s; seconds to add to a camera's times
                     caption.txt optional

Times are the container's presentation times. There is no split.
"""

from pathlib import Path

from fourdistill.errors import InputError
from fourdistill.scene import Scene, Video
from fourdistill.sources.formats import Format
from fourdistill.sources.readers.listing import (
    SYNC,
    VIDEO_SUFFIXES,
    list_videos,
    read_caption,
    read_each,
    read_offsets,
    scene_folders,
    usable,
)

CAMERA_ID = "cam00"


def read_videos(folder: Path) -> list[Scene]:
    """One scene per film, named after its file, and one per folder of films."""
    if (folder / SYNC).is_file():
        raise InputError(
            f"{folder / SYNC}: expected it beside the films of one scene, in a folder of their own: {folder}/<scene>/"
        )
    alone, wrong = read_each(list_videos(folder), _read_film)
    together, errors = read_each(scene_folders(folder), _read_folder, VIDEO_SUFFIXES)
    if not alone and not together:
        raise InputError(f"{folder}: expected video files (.mp4, .mkv, .avi, ...) or folders of them, found none")
    return usable([*alone, *together], [*wrong, *errors], folder)


def _read_film(path: Path) -> Scene:
    return Scene(path.stem, (Video(CAMERA_ID, path),), read_caption(path.with_suffix(".txt")))


def _read_folder(folder: Path) -> Scene:
    paths = list_videos(folder)
    if not paths:
        raise InputError(f"{folder}: expected video files, one per camera, found none")
    offsets = read_offsets(folder, [path.stem for path in paths])
    videos = tuple(Video(path.stem, path, offset_s=offsets[path.stem]) for path in paths)
    return Scene(folder.name, videos, read_caption(folder / "caption.txt"))


FORMAT = Format(read_videos, lambda _: True)
