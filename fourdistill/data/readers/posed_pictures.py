"""What the readers of posed image files share: from a list of pictures to the films of a scene's cameras."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from fourdistill.data.readers.listing import natural_key
from fourdistill.data.scene import Camera, Picture, Pictures
from fourdistill.errors import InputError

ONLY_CAMERA = "cam00"
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Shot:
    """One picture as a description names it."""

    name: str
    """Relative, with forward slashes."""
    path: Path
    camera: Camera
    time: float | None = None
    """Of any unit; None where the description gives none."""
    split: str | None = None


def films(shots: Sequence[Shot], source: Path, by_folder: bool = True) -> tuple[Pictures, ...]:
    """Cameras of the shots that `source` describes: with `by_folder` one per folder, where there are several.

    Else they are one camera, which moves, unless some were taken at one time (see `_tell_apart`). Times count where
    every shot has one, else the order of names. Shots of several cameras belong to one instant where their times, or
    their places in the order, are equal. Timestamps are those times, or 0, 1, ... Raises `InputError` where a picture
    is named twice, a camera has two shots of one instant, or only some have times.
    """
    if not shots:
        raise InputError(f"{source}: expected at least one picture, found none")
    timed = [shot.time is not None for shot in shots]
    if any(timed) and not all(timed):
        raise InputError(
            f"{source}: {shots[timed.index(False)].name[:200]!r}: time: expected one, as other frames have"
        )
    paths: set[Path] = set()
    for shot in shots:
        if shot.path in paths:
            raise InputError(f"{source}: {shot.name[:200]!r}: expected each picture once, found it twice")
        paths.add(shot.path)
    shots = sorted(shots, key=_order)
    folders = {str(PurePosixPath(shot.name).parent) for shot in shots}
    cameras = _by_folder(shots, source) if by_folder and len(folders) > 1 else _tell_apart(shots)
    times = sorted({shot.time for shot in shots if shot.time is not None})
    instants = {time: index for index, time in enumerate(times)}
    return tuple(
        _film(
            camera_id,
            found,
            [index if shot.time is None else instants[shot.time] for index, shot in enumerate(found)],
            source,
        )
        for camera_id, found in sorted(cameras.items())
    )


def _order(shot: Shot) -> tuple[float, int, list[tuple[int, str]]]:
    """Sort key: time, then what is trained on before what is held out, then name; without times, the name."""
    split = 0 if shot.time is None else SPLITS.index(shot.split or SPLITS[0])
    return (shot.time or 0.0, split, natural_key(shot.name))


def _by_folder(shots: Sequence[Shot], source: Path) -> dict[str, list[Shot]]:
    """The shots of each folder, by the folder's own name."""
    folders: dict[str, list[Shot]] = {}
    for shot in shots:
        folders.setdefault(str(PurePosixPath(shot.name).parent), []).append(shot)
    named = {PurePosixPath(folder).name or ONLY_CAMERA: found for folder, found in folders.items()}
    if len(named) < len(folders):
        raise InputError(f"{source}: expected folders of different names, one per camera, found two of one name")
    return named


def _tell_apart(shots: Sequence[Shot]) -> dict[str, list[Shot]]:
    """Shots in order of time => those of one camera, or of several where some share a time: none is in two places.

    Where poses recur, each is a camera that stands still. Else the first, second, ... shots of their instants are a
    camera each.
    """
    num_times = len({shot.time for shot in shots})
    if shots[0].time is None or num_times == len(shots):
        return {ONLY_CAMERA: list(shots)}
    by_pose: dict[bytes, list[Shot]] = {}
    by_rank: dict[int, list[Shot]] = {}
    ranks: Counter[float | None] = Counter()
    for shot in shots:
        by_pose.setdefault(shot.camera.c2w.tobytes(), []).append(shot)
        by_rank.setdefault(ranks[shot.time], []).append(shot)
        ranks[shot.time] += 1
    recur = 2 * len(by_pose) <= len(shots)
    apart = all(len({shot.time for shot in found}) == len(found) for found in by_pose.values())
    cameras = sorted(by_pose.values(), key=lambda found: _order(found[0])[1:]) if recur and apart else by_rank.values()
    return {f"cam{number:02d}": found for number, found in enumerate(cameras)}


def _film(camera_id: str, shots: list[Shot], indices: list[int], source: Path) -> Pictures:
    pictures = []
    for shot, index in zip(shots, indices, strict=True):
        if pictures and pictures[-1].index == index:
            raise InputError(f"{source}: {shot.name[:200]!r}: expected a time of its own within camera {camera_id}")
        time = float(index) if shot.time is None else shot.time
        pictures.append(Picture(shot.path, index, time, shot.camera, shot.split))
    return Pictures(camera_id, source, tuple(pictures))


def has_suffix(path: Path, suffixes: Sequence[str] = (".png", ".jpg", ".jpeg")) -> Path:
    """A path that may lack its suffix => the file with the first of `suffixes` that is there, or with the first."""
    if path.suffix.lower() in suffixes or path.is_file():
        return path
    candidates = [path.with_name(path.name + suffix) for suffix in suffixes]
    return next((candidate for candidate in candidates if candidate.is_file()), candidates[0])


def focal_from_angle(angle: float, length: int) -> float:
    """Field of view in radians over an image's width or height in pixels => focal length in pixels."""
    return 0.5 * length / float(np.tan(0.5 * angle))
