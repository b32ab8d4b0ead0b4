"""What the readers of posed image files share: from a list of pictures to the films of a scene's cameras."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from fourdistill.data.readers.listing import natural_key
from fourdistill.data.scene import Camera, Picture, Pictures
from fourdistill.errors import InputError

ONLY_CAMERA = "cam00"


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


def films(shots: Sequence[Shot], source: Path) -> tuple[Pictures, ...]:
    """Cameras of the shots that `source` describes: one per folder; a single folder is one camera, which moves.

    Times count where every shot has one, else the order of names. Shots of several cameras belong to one instant
    where their times, or their places in the order, are equal. Timestamps are those times, or 0, 1, ... Raises
    `InputError` where a camera has two shots of one instant, or only some have times.
    """
    if not shots:
        raise InputError(f"{source}: expected at least one picture, found none")
    timed = [shot.time is not None for shot in shots]
    if any(timed) and not all(timed):
        raise InputError(f"{source}: {shots[timed.index(False)].name}: time: expected one, as other frames have")
    folders: dict[str, list[Shot]] = {}
    for shot in sorted(shots, key=lambda shot: (shot.time or 0.0, natural_key(shot.name))):
        folders.setdefault(str(PurePosixPath(shot.name).parent), []).append(shot)
    if len(folders) == 1:
        (only,) = folders.values()
        return (_film(ONLY_CAMERA, only, list(range(len(only))), source),)
    times = sorted({shot.time for shot in shots if shot.time is not None})
    instants = {time: index for index, time in enumerate(times)}
    named = {PurePosixPath(folder).name or ONLY_CAMERA: found for folder, found in folders.items()}
    if len(named) < len(folders):
        raise InputError(f"{source}: expected folders of different names, one per camera, found two of one name")
    return tuple(
        _film(
            camera_id,
            found,
            [index if shot.time is None else instants[shot.time] for index, shot in enumerate(found)],
            source,
        )
        for camera_id, found in sorted(named.items())
    )


def _film(camera_id: str, shots: list[Shot], indices: list[int], source: Path) -> Pictures:
    pictures = []
    for shot, index in zip(shots, indices, strict=True):
        if pictures and pictures[-1].index == index:
            raise InputError(f"{source}: {shot.name}: expected a time of its own within camera {camera_id}")
        time = float(index) if shot.time is None else shot.time
        pictures.append(Picture(shot.path, index, time, shot.camera, shot.split))
    return Pictures(camera_id, source, tuple(pictures))


def has_suffix(path: Path, suffixes: Sequence[str] = (".png", ".jpg", ".jpeg")) -> Path:
    """A path that may lack its suffix => the file with the first of `suffixes` that is there, or with the first."""
    if path.suffix.lower() in suffixes:
        return path
    candidates = [path.with_name(path.name + suffix) for suffix in suffixes]
    return next((candidate for candidate in candidates if candidate.is_file()), candidates[0])


def focal_from_angle(angle: float, length: int) -> float:
    """Field of view in radians over an image's width or height in pixels => focal length in pixels."""
    return 0.5 * length / float(np.tan(0.5 * angle))
