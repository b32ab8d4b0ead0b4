"""The table of formats: each reader turns one source folder into scenes and touches no pixels."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from fourdistill.data.readers.dynerf import read_dynerf
from fourdistill.data.readers.qualisys import read_qualisys
from fourdistill.data.readers.video import read_videos
from fourdistill.data.scene import Scene
from fourdistill.errors import InputError

READERS: dict[str, Callable[[Path], list[Scene]]] = {
    "dynerf": read_dynerf,
    "qualisys": read_qualisys,
    "video": read_videos,
}


def read_sources(sources: Iterable[tuple[Path, str, str]]) -> list[Scene]:
    """(folder, format, prefix of its scenes' names) of every source => all scenes, sorted by name.

    Raises `InputError` for an unknown format, a folder that is missing or empty, or two scenes of one name.
    """
    scenes: dict[str, Scene] = {}
    for folder, format_name, prefix in sources:
        if format_name not in READERS:
            raise InputError(f"{folder}: format: expected one of {', '.join(READERS)}, got {format_name!r}")
        for read in read_source(folder, format_name):
            scene = replace(read, name=prefix + read.name)
            if scene.name in scenes:
                first, second = scenes[scene.name].videos[0].path, scene.videos[0].path
                raise InputError(
                    f"{second}: scene {scene.name!r}: expected a name of its own, "
                    f"but {first} belongs to a scene of that name; see extract_frames.sources: prefix"
                )
            scenes[scene.name] = scene
    return [scenes[name] for name in sorted(scenes)]


def read_source(folder: Path, format_name: str) -> list[Scene]:
    """Scenes of one source folder, at least one; raises `InputError` where there is nothing to read."""
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of format {format_name!r}, found none")
    if not any(folder.iterdir()):
        raise InputError(f"{folder}: expected videos or scene folders of format {format_name!r}, found an empty folder")
    return READERS[format_name](folder)
