"""Shared by the readers: finding videos and scene folders, and reading captions and time offsets."""

import csv
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

from fourdistill.errors import InputError
from fourdistill.scene import BadPiece, Scene
from fourdistill.sources.names import canonical, printable
from fourdistill.sources.readers.parsing import read_text
from fourdistill.sources.system_files import is_system_file

VIDEO_SUFFIXES = frozenset(
    {
        ".264", ".265", ".3g2", ".3gp", ".apng", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".h264",
        ".h265", ".hevc", ".insv", ".ivf", ".lrv", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv",
        ".mod", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogm", ".ogv", ".qt", ".tod", ".ts",
        ".vob", ".webm", ".wmv", ".y4m",
    }
)  # fmt: skip
"""File extensions of films, in lower case: common formats that FFmpeg reads."""
PICTURE_SUFFIXES = frozenset({".avif", ".bmp", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_PREVIEWS = frozenset({".apng", ".gif", ".lrv"})
"""Extensions of small copies, which cameras and users put beside their films."""
SYNC = "sync.csv"


def visible(folder: Path) -> list[Path]:
    """Entries of a folder, sorted by name, without hidden and system files."""
    return sorted(path for path in folder.iterdir() if not is_system_file(path.name))


def find_visible(folder: Path, pattern: str) -> list[Path]:
    """Paths below a folder by a glob pattern, sorted, but for what is hidden or left by a system."""
    found = sorted(folder.glob(pattern))
    return [path for path in found if not any(map(is_system_file, path.relative_to(folder).parts))]


def marked_by(*patterns: str) -> Callable[[Path], bool]:
    """Whether a folder, or one of the folders in it, has a visible path of one of these glob patterns."""

    def is_in(folder: Path) -> bool:
        return any(find_visible(folder, f"{place}{pattern}") for pattern in patterns for place in ("", "*/"))

    return is_in


def list_videos(folder: Path) -> list[Path]:
    """Video files directly inside a folder, sorted by name; raises `InputError` if two share a stem.

    Broken and circular links are included, so that they are counted as bad videos. Small copies (.lrv of action
    cameras, .gif) are included only if there are no other videos.
    """
    videos = [path for path in visible(folder) if path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir()]
    videos = [video for video in videos if video.suffix.lower() not in _PREVIEWS] or videos
    by_stem: dict[str, Path] = {}
    for video in videos:
        check_name(video)
        if video.stem in by_stem:
            raise InputError(f"{video}: expected a stem of its own, but {by_stem[video.stem].name} lies beside it")
        by_stem[video.stem] = video
    return videos


def walk(folder: Path, skipped: Collection[str] = ()) -> Iterator[tuple[str, bool]]:
    """Yield every file below a folder, unordered, and whether it is a system file; a system folder counts as one.

    Linked folders are followed, each once. `skipped` files and folders are left out.
    """
    seen: set[str] = set()
    folders = [str(folder)]
    while folders:
        here = folders.pop()
        if (real := os.path.realpath(here)) in seen:
            continue
        seen.add(real)
        try:
            entries = os.scandir(here)
        except OSError:  # no permission, disk failure
            yield here, False  # the folder stands for its contents
            continue
        with entries:
            for entry in entries:
                if entry.path in skipped:
                    continue
                of_system = is_system_file(entry.name)
                # `Path.is_dir` is False for a circular link.
                if of_system or not (Path(entry.path) if entry.is_symlink() else entry).is_dir():
                    yield entry.path, of_system
                else:
                    folders.append(entry.path)


def read_scenes(folder: Path, is_scene: bool, kinds: frozenset[str], read: Callable[[Path], Scene]) -> list[Scene]:
    """The scenes of a source: the folder itself if it `is_scene`, else its visible subfolders, sorted.

    Raises `InputError` if there is no scene or none can be read; other errors are handled as in `read_each`.
    """
    return [read(folder)] if is_scene else usable(*read_each(scene_folders(folder), read, kinds), folder)


def scene_folders(folder: Path) -> list[Path]:
    """The visible subfolders, sorted."""
    return [path for path in visible(folder) if path.is_dir()]


def read_each(
    paths: Iterable[Path], read: Callable[[Path], Scene], kinds: frozenset[str] = frozenset()
) -> tuple[list[Scene], list[InputError]]:
    """Read one scene from each file or folder; returns the scenes and all errors.

    An unreadable file gives a scene that contains only its error. So does an unreadable folder, counted by its files
    with an extension in `kinds`; a folder without such files gives no scene.
    """
    scenes: list[Scene] = []
    errors: list[InputError] = []
    for path in paths:
        try:
            with readable(path):
                check_name(path)
                scenes.append(read(path))
        except InputError as error:
            errors.append(error)
            files = [PurePath(file) for file, _ in walk(path)] if path.is_dir() else [path]
            if num_files := sum(file == path or file.suffix.lower() in kinds for file in files):
                reason = str(error).removeprefix(f"{printable(str(path))}: ").removeprefix(f"{path}/")
                name = path.name if path.is_dir() else path.stem
                scenes.append(Scene(printable(name), (), bad=(BadPiece(path, reason, num_files),)))
    return scenes, errors


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Convert file errors to `InputError`: no permission, a loop of links, a name too long."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{error.filename or path}: expected to be readable: {error.strerror}") from error


def usable(scenes: list[Scene], errors: list[InputError], folder: Path) -> list[Scene]:
    """The scenes of a source, if at least one is usable; otherwise raises the first error or "found neither"."""
    if not any(scene.videos for scene in scenes):
        none = f"{folder}: expected a scene or folders of scenes (the layout of its format), found neither"
        raise errors[0] if errors else InputError(none)
    return scenes


def check_name(path: Path) -> None:
    """Raise `InputError` for a name that is not UTF-8, because it cannot be stored in tables."""
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{printable(str(path))}: expected a file name in UTF-8") from error


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key that puts frame_2 before frame_10."""
    parts = re.split(r"([0-9]{1,18})", name)  # every second part is a number
    return [(int(part), "") if index % 2 else (-1, part) for index, part in enumerate(parts)]


def read_caption(path: Path) -> str | None:
    """The text of a caption file as one line, None if the file is missing or empty."""
    if not path.is_file():
        return None
    return " ".join(read_text(path, "a caption").split()) or None


def read_offsets(folder: Path, camera_ids: list[str]) -> dict[str, float]:
    """Seconds to add to each camera's times, from `sync.csv` (columns camera, offset_s) in a scene's folder, or zeros.

    Raises `InputError` for an unknown or repeated camera, or an invalid number.
    """
    path = folder / SYNC
    offsets: dict[str, float] = {}
    by_name = {canonical(camera_id): camera_id for camera_id in camera_ids}
    if not path.is_file():
        return dict.fromkeys(camera_ids, 0.0)
    table = csv.DictReader(read_text(path, "a table of offsets").splitlines(), skipinitialspace=True)
    if not {"camera", "offset_s"} <= set(table.fieldnames or ()):
        found = str(table.fieldnames or "none")[:200]
        raise InputError(f"{path}: line 1: expected the columns camera, offset_s, found {found}")
    for number, row in enumerate(table, start=2):
        named, offset = row.get("camera"), row.get("offset_s")
        camera = by_name.get(canonical(named or ""))
        if camera is None or camera in offsets:
            raise InputError(
                f"{path}: line {number}: camera: expected one of {', '.join(camera_ids)}, found {str(named)[:80]!r}"
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
