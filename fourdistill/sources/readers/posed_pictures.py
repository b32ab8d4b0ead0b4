"""Shared by the readers of posed image files: group a list of pictures into the films of a scene's cameras."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fourdistill.errors import InputError
from fourdistill.scene import Camera, Picture, Pictures
from fourdistill.sources.readers.instants import instants_by_name, instants_by_time
from fourdistill.sources.readers.listing import natural_key, visible

ONLY_CAMERA = "cam00"
SPLITS = ("train", "val", "test")
ENDINGS = ("", ".jpg", ".jpeg", ".JPG", ".JPEG", ".PNG", ".webp", ".png")
"""Extensions to try for pictures named without one; the last is used if no file exists."""


@dataclass(frozen=True)
class Shot:
    """One picture in a description."""

    name: str
    """Relative path in canonical spelling."""
    path: Path
    camera: Camera
    time: float | None = None
    """In any unit; None if the description has none."""
    split: str | None = None
    taken_by: str | None = None
    """The camera's name, if the description gives it more precisely than the picture's folder does."""


def films(shots: Sequence[Shot], source: Path, by_folder: bool = True) -> tuple[Pictures, ...]:
    """Cameras of the shots that `source` describes: with `by_folder` and several folders, one camera per folder.

    Otherwise they are one moving camera, unless some have the same time (see `_tell_apart`). Instants come from times
    if every shot has one, else from names (see `instants`); timestamps are the times, or else the instants' numbers.
    Raises `InputError` if a picture is named twice, a camera has two shots of one instant, or only some have times.
    """
    if not shots:
        raise InputError(f"{source}: expected at least one picture, found none")
    times = [shot.time for shot in shots if shot.time is not None]
    if times and len(times) < len(shots):
        without = next(shot for shot in shots if shot.time is None)
        raise InputError(f"{source}: {without.name[:200]!r}: time: expected one, as other frames have")
    _check_once(shots, source)
    names = _camera_names(shots) if by_folder else {}
    if len(names) > 1:
        cameras = [names[_place(shot)] for shot in shots]
        _check_times(shots, cameras, source)
        instants = instants_by_time(times, cameras) if times else _by_name(shots, cameras)
    elif times:
        instants = instants_by_time(times)
        cameras = _tell_apart(shots, instants)
    else:
        cameras = [next(iter(names.values()), ONLY_CAMERA)] * len(shots)
        instants = _by_name(shots, cameras)
    taken: dict[str, list[Picture]] = {}
    for shot, camera, instant in zip(shots, cameras, instants, strict=True):
        time = float(instant) if shot.time is None else shot.time
        taken.setdefault(camera, []).append(Picture(shot.path, instant, time, shot.camera, shot.split))
    return tuple(
        Pictures(camera, source, tuple(sorted(pictures, key=lambda picture: picture.index)))
        for camera, pictures in sorted(taken.items())
    )


def name_folders(folders: Iterable[str]) -> dict[str, str]:
    """Relative folders => unique camera names, from the parts of the paths that differ.

    The last part, if it is unique; otherwise all parts except the common start and end, joined by `_`.
    """
    parts = {folder: PurePosixPath(folder).parts for folder in sorted(set(folders))}
    start, end = 0, 0
    shortest = min(len(part) for part in parts.values())
    if len(parts) > 1:
        while start < shortest and len({part[start] for part in parts.values()}) == 1:
            start += 1
        while end < shortest - start and len({part[-1 - end] for part in parts.values()}) == 1:
            end += 1
    for name in (lambda part: part[-1] if part else ONLY_CAMERA, lambda part: "_".join(part[start : len(part) - end])):
        names = {folder: name(part) or ONLY_CAMERA for folder, part in parts.items()}
        if len(set(names.values())) == len(names):
            return names
    return {folder: f"cam{number:02d}" for number, folder in enumerate(parts)}


def _place(shot: Shot) -> str:
    return shot.taken_by or str(PurePosixPath(shot.name).parent)


def _camera_names(shots: Sequence[Shot]) -> dict[str, str]:
    """`_place` of the shots => camera names; if all shots have one folder, `ONLY_CAMERA`."""
    if shots[0].taken_by is not None:
        return {_place(shot): _place(shot) for shot in shots}
    places = {_place(shot) for shot in shots}
    return name_folders(places) if len(places) > 1 else dict.fromkeys(places, ONLY_CAMERA)


def _check_once(shots: Sequence[Shot], source: Path) -> None:
    paths: set[Path] = set()
    for shot in shots:
        if shot.path in paths:
            raise InputError(f"{source}: {shot.name[:200]!r}: expected each picture once, found it twice")
        paths.add(shot.path)


def _check_times(shots: Sequence[Shot], cameras: Sequence[str], source: Path) -> None:
    taken: set[tuple[str, float]] = set()
    for shot, camera in zip(shots, cameras, strict=True):
        if shot.time is not None and (camera, shot.time) in taken:
            raise InputError(f"{source}: {shot.name[:200]!r}: expected a time of its own within camera {camera}")
        if shot.time is not None:
            taken.add((camera, shot.time))


def _by_name(shots: Sequence[Shot], cameras: Sequence[str]) -> list[int]:
    """The instant of each shot by its name; unused pictures of the same kind beside them also take up instants."""
    mine: dict[str, list[int]] = {}
    for index, camera in enumerate(cameras):
        mine.setdefault(camera, []).append(index)
    names: dict[str, list[str]] = {}
    unused: dict[str, list[str]] = {}
    for camera, indices in mine.items():
        paths = [shots[index].path for index in indices]
        stems = [PurePosixPath(shots[index].name).stem for index in indices]
        bare = len(set(stems)) == len(stems)
        names[camera] = stems if bare else [PurePosixPath(shots[index].name).name for index in indices]
        unused[camera] = _unused(paths) if bare else []
    found = instants_by_name(names, unused)
    instants = [0] * len(shots)
    for camera, indices in mine.items():
        for index, instant in zip(indices, found[camera], strict=True):
            instants[index] = instant
    return instants


def _unused(paths: Sequence[Path]) -> list[str]:
    """Stems of other pictures beside `paths` that are numbered in the same way, such as those without a pose."""

    def kind(path: Path) -> tuple[str, ...]:
        return (path.suffix, *(word for number, word in natural_key(path.stem) if number < 0))

    used, folders = set(paths), sorted({path.parent for path in paths})
    beside = [path for folder in folders if folder.is_dir() for path in visible(folder) if path not in used]
    kinds = {kind(path) for path in paths} if beside else set()
    return [path.stem for path in beside if kind(path) in kinds and any(n >= 0 for n, _ in natural_key(path.stem))]


def _tell_apart(shots: Sequence[Shot], instants: Sequence[int]) -> list[str]:
    """Camera names of the shots: one camera, or several if shots share an instant, as a camera has one pose at a time.

    If poses recur, each pose is a static camera. Otherwise the first shots of all instants are one camera, the second
    shots another, and so on. Within an instant, training shots come before held-out shots, then names decide.
    """
    if len(set(instants)) == len(shots):
        return [ONLY_CAMERA] * len(shots)

    def order(index: int) -> tuple[int, list[tuple[int, str]]]:
        return SPLITS.index(shots[index].split or SPLITS[0]), natural_key(shots[index].name)

    by_pose: dict[bytes, list[int]] = {}
    by_rank: dict[int, list[int]] = {}
    ranks: Counter[int] = Counter()
    for index in sorted(range(len(shots)), key=lambda index: (instants[index], *order(index))):
        by_pose.setdefault(shots[index].camera.c2w.tobytes(), []).append(index)
        by_rank.setdefault(ranks[instants[index]], []).append(index)
        ranks[instants[index]] += 1
    recur = 2 * len(by_pose) <= len(shots)
    apart = all(len({instants[index] for index in found}) == len(found) for found in by_pose.values())
    groups = sorted(by_pose.values(), key=lambda found: order(found[0])) if recur and apart else by_rank.values()
    names = [ONLY_CAMERA] * len(shots)
    for number, found in enumerate(groups):
        for index in found:
            names[index] = f"cam{number:02d}"
    return names


def focal_from_angle(angle: float, length: float) -> float:
    """Field of view in radians over an image's width or height in pixels => focal length in pixels."""
    return 0.5 * length / math.tan(0.5 * angle)
