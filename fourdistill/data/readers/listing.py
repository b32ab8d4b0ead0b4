"""What the readers share: which files are videos, which folders are scenes, and captions beside them."""

from pathlib import Path

from fourdistill.errors import InputError

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm"})


def list_videos(folder: Path) -> list[Path]:
    """Video files directly inside a folder, sorted by name; raises `InputError` when two share a stem."""
    videos = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file() and not path.name.startswith(".")
    )
    by_stem: dict[str, Path] = {}
    for video in videos:
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
    return scenes


def read_caption(path: Path) -> str | None:
    """The text of a caption file as one line, or None where there is no such file or nothing in it."""
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected a caption in UTF-8: {error.reason}") from error
    return " ".join(text.split()) or None
