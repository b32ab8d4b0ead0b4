"""Files in a source's folder that are not used, counted by reason, for all formats."""

import os
from collections.abc import Iterable
from pathlib import Path, PurePath

from fourdistill.scene import LeftOut, Pictures, Scene
from fourdistill.sources.names import printable
from fourdistill.sources.readers.listing import PICTURE_SUFFIXES, VIDEO_SUFFIXES, walk


def left_out(folder: Path, format_name: str, scenes: Iterable[Scene], descriptions: Iterable[Path]) -> list[LeftOut]:
    """Files that neither scenes nor descriptions use, and unused content of the descriptions."""
    scenes = list(scenes)
    used = {str(path) for paths in (*map(_paths, scenes), descriptions) for path in paths}
    files = [
        LeftOut(_reason(path, of_system, format_name), 1, printable(path[len(str(folder)) :].strip(os.sep)))
        for path, of_system in walk(folder, used)
    ]
    return summed([*files, *(beyond for scene in scenes for beyond in scene.left_out)])


def summed(rows: Iterable[LeftOut]) -> list[LeftOut]:
    """One row per reason, sorted, with the alphabetically first example."""
    by_reason: dict[str, list[LeftOut]] = {}
    for row in rows:
        by_reason.setdefault(row.reason, []).append(row)
    return [
        LeftOut(reason, sum(row.count for row in found), min(row.example for row in found))
        for reason, found in sorted(by_reason.items())
    ]


def _paths(scene: Scene) -> Iterable[Path]:
    for film in scene.videos:
        yield from (picture.path for picture in film.pictures) if isinstance(film, Pictures) else (film.path,)
    yield from (piece.path for piece in scene.bad)


def _reason(path: str, of_system: bool, format_name: str) -> str:
    suffix = PurePath(path).suffix.lower()
    if of_system:
        return "hidden, or left by a system"
    if suffix in VIDEO_SUFFIXES:
        return "film that no scene uses"
    if suffix in PICTURE_SUFFIXES:
        return "picture that no scene uses"
    return f"not read by format {format_name}"
