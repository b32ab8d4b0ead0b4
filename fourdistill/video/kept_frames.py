"""Select the frames of each film to keep: those on the scene's common clock, up to a maximum number."""

from collections.abc import Sequence

import numpy as np

from fourdistill.errors import InputError
from fourdistill.scene import Pictures, Scene
from fourdistill.video.films import ProbedFilm
from fourdistill.video.timeline import Kept, align, count_missing


def keep_frames(
    scenes: Sequence[Scene], films: Sequence[ProbedFilm], max_frames: int | None
) -> tuple[list[tuple[ProbedFilm, Kept]], list[tuple[ProbedFilm, int]]]:
    """Frames of each film to keep, at most `max_frames`; and films with gaps, with their numbers of missing instants.

    Raises `InputError` like `align`.
    """
    tasks, missing = [], []
    for scene in scenes:
        cameras = [film for film in films if film.scene == scene.name]
        if not cameras:
            continue
        if scene.fps is None and isinstance(cameras[0].film, Pictures):
            kept = [_as_numbered(film.film) for film in cameras if isinstance(film.film, Pictures)]
        else:
            try:
                kept = align([film.timestamps_s for film in cameras], scene.fps)
            except InputError as error:
                raise InputError(f"{cameras[0].film.path.parent}: {error}") from error
        for film, keep, num in zip(cameras, kept, count_missing(kept), strict=True):
            tasks.append((film, Kept(keep.frames[:max_frames], keep.instants[:max_frames])))
            if num:
                missing.append((film, num))
    return tasks, missing


def _as_numbered(film: Pictures) -> Kept:
    """All pictures of a film, at the instants given by its reader."""
    return Kept(np.arange(len(film.pictures)), np.array([picture.index for picture in film.pictures]))
