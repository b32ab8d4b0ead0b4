"""What the readers share: which files are videos, which folders are scenes, captions and offsets beside them."""

import csv
import re
from pathlib import Path

from fourdistill.data.readers.parsing import read_text
from fourdistill.errors import InputError

VIDEO_SUFFIXES = frozenset(
    {
        ".264", ".265", ".3g2", ".3gp", ".apng", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".h264",
        ".h265", ".hevc", ".insv", ".ivf", ".lrv", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv",
        ".mod", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogm", ".ogv", ".qt", ".tod", ".ts",
        ".vob", ".webm", ".wmv", ".y4m",
    }
)  # fmt: skip
"""How films' names end, in lower case: what FFmpeg reads and people film with."""
_PROXIES = frozenset({".lrv"})
SYNC = "sync.csv"


def list_videos(folder: Path) -> list[Path]:
    """Video files directly inside a folder, sorted by name; raises `InputError` when two share a stem.

    A link that leads nowhere, or in a circle, is one of them: it is to be counted as a bad video, not to go unseen.
    An action camera's small copies (.lrv) are films only where nothing else is.
    """
    videos = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir() and not path.name.startswith(".")
    )
    videos = [video for video in videos if video.suffix.lower() not in _PROXIES] or videos
    by_stem: dict[str, Path] = {}
    for video in videos:
        check_name(video)
        if video.stem in by_stem:
            raise InputError(f"{video}: expected a stem of its own, but {by_stem[video.stem].name} lies beside it")
        by_stem[video.stem] = video
    return videos


def list_scene_folders(folder: Path, is_scene: bool) -> list[Path]:
    """The folder itself when it `is_scene`, else its visible subfolders, sorted; at least one."""
    if is_scene:
        return [folder]
    scenes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not scenes:
        raise InputError(f"{folder}: expected a scene or folders of scenes (the layout of its format), found neither")
    for scene in scenes:
        check_name(scene)
    return scenes


def check_name(path: Path) -> None:
    """Raise `InputError` for a name that is no UTF-8: it could not be put into tables."""
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{str(path)!a}: expected a file name in UTF-8") from error


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key by which frame_2 comes before frame_10."""
    parts = re.split(r"([0-9]{1,18})", name)  # every second one is a number
    return [(int(part), "") if index % 2 else (-1, part) for index, part in enumerate(parts)]


def read_caption(path: Path) -> str | None:
    """The text of a caption file as one line, or None where there is no such file or nothing in it."""
    if not path.is_file():
        return None
    return " ".join(read_text(path, "a caption").split()) or None


def read_offsets(folder: Path, camera_ids: list[str]) -> dict[str, float]:
    """Seconds to add to each camera's times, from `sync.csv` (columns camera, offset_s) in a scene's folder, or zeros.

    Raises `InputError` for a camera that is not there, or twice, and for what is no number.
    """
    path = folder / SYNC
    offsets: dict[str, float] = {}
    if not path.is_file():
        return dict.fromkeys(camera_ids, 0.0)
    table = csv.DictReader(read_text(path, "a table of offsets").splitlines())
    if not {"camera", "offset_s"} <= set(table.fieldnames or ()):
        raise InputError(f"{path}: line 1: expected the columns camera, offset_s, found {table.fieldnames or 'none'}")
    for number, row in enumerate(table, start=2):
        camera, offset = row.get("camera"), row.get("offset_s")
        if camera not in camera_ids or camera in offsets:
            raise InputError(
                f"{path}: line {number}: camera: expected one of {', '.join(camera_ids)}, found {str(camera)[:80]!r}"
            )
        try:
            offsets[camera] = float(offset or "")
        except ValueError as error:
            raise InputError(
                f"{path}: line {number}: offset_s: expected seconds, found {str(offset)[:80]!r}"
            ) from error
        if not abs(offsets[camera]) < 1e9:
            raise InputError(f"{path}: line {number}: offset_s: expected seconds, found {str(offset)[:80]!r}")
    return {camera: offsets.get(camera, 0.0) for camera in camera_ids}
