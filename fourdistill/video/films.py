"""Extract one camera's film to frames on disk, with their times and camera poses; unreadable files are reported."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourdistill.geometry.poses import Array
from fourdistill.scene import Camera, Film, Pictures, Video
from fourdistill.storage.store import Store, checksum
from fourdistill.video.decode import decode_frames
from fourdistill.video.jpegs import FRAME_PATTERN, FramePlan
from fourdistill.video.pictures import extract_pictures
from fourdistill.video.probe import VideoError, VideoInfo, probe_video
from fourdistill.video.square import square_intrinsics
from fourdistill.video.timeline import Kept


@dataclass(frozen=True)
class BadFile:
    """One file that was skipped, with a one-line reason."""

    scene: str
    film: Film
    path: Path
    reason: str


@dataclass(frozen=True)
class ProbedFilm:
    """One film before decoding: `timestamps_s` (N,), ascending, offset included; `info` for video files only."""

    scene: str
    film: Film
    timestamps_s: NDArray[np.float64]
    info: VideoInfo | None


@dataclass(frozen=True)
class ExtractedFilm:
    """One film's N frames on disk; the file names are the numbers of their instants."""

    scene: str
    film: Film
    instants: NDArray[np.int64]
    timestamps_s: NDArray[np.float64]
    K: Array
    """(N, 3, 3) of the JPEGs, NaN if unknown."""
    c2w: Array
    """(N, 4, 4), NaN if unknown."""
    splits: tuple[str | None, ...]
    """The split of each frame in the source format."""
    notes: tuple[str, ...] = ()
    """Treatments of the film and omissions from it, one line each."""
    bad: tuple[BadFile, ...] = ()
    """Pictures that were skipped."""
    written: dict[str, Any] | None = None
    """At an address: its entry in the index."""


def probe_film(task: tuple[str, Film]) -> ProbedFilm | BadFile:
    """Probe one (scene name, film): read a video's packets, or take the times of pictures from the reader."""
    scene, film = task
    if isinstance(film, Pictures):
        return ProbedFilm(scene, film, np.array([picture.timestamp_s for picture in film.pictures]), None)
    try:
        info = probe_video(film.path)
    except VideoError as error:
        return BadFile(scene, film, film.path, str(error))
    return ProbedFilm(scene, film, info.timestamps_s + film.offset_s, info)


def extract_film(task: tuple[ProbedFilm, Kept], store: Store, plan: FramePlan) -> ExtractedFilm | BadFile:
    """Extract the kept frames of one film to `<scene>/<camera>` of a store; a folder is complete or absent."""
    probed, kept = task
    film = probed.film
    if not len(kept.frames):
        return BadFile(probed.scene, film, film.path, "expected a frame at one of the scene's instants, found none")
    name = f"{probed.scene}/{film.camera_id}"
    try:
        with store.folder(name, suffixes={".jpg"}) as folder:
            if isinstance(film, Video):
                extracted = _extract_video(probed, film, kept, folder, plan)
            else:
                extracted = _extract_pictures(probed, film, kept, folder, plan)
            _name_after_instants(folder, extracted.instants)
            if store.is_remote:
                extracted = replace(extracted, written={"name": name, **checksum(folder)})
    except VideoError as error:
        return BadFile(probed.scene, film, film.path, str(error))
    return extracted


def _extract_video(probed: ProbedFilm, film: Video, kept: Kept, folder: Path, plan: FramePlan) -> ExtractedFilm:
    info = probed.info
    assert info is not None
    cameras = cameras_of_frames(film, info.timestamps_s)
    frames, late_notes = decode_frames(film, info, folder, plan, kept.frames)
    K, c2w = np.full((len(frames), 3, 3), np.nan), np.full((len(frames), 4, 4), np.nan)
    for row, frame in enumerate(frames):
        if (camera := cameras[frame]) is not None:
            K[row] = square_intrinsics(camera, (info.width, info.height), plan.size)
            c2w[row] = camera.c2w
    notes = [*info.notes(film.background), *late_notes]
    if len(frames) < len(kept.frames):
        notes.append(f"{len(kept.frames) - len(frames)} of the frames that the container lists have no picture")
    return ExtractedFilm(
        probed.scene,
        film,
        kept.instants[np.isin(kept.frames, frames)],
        probed.timestamps_s[frames],
        K,
        c2w,
        (None,) * len(frames),
        tuple(notes),
    )


def cameras_of_frames(film: Video, timestamps_s: NDArray[np.float64]) -> list[Camera | None]:
    """Container times (N,) => the camera of each frame: the static camera, or the track's camera at that time.

    Each pose of the track is assigned to the nearest frame, if that is at most half a frame interval away.
    """
    if not film.track:
        return [film.camera] * len(timestamps_s)
    cameras: list[Camera | None] = [None] * len(timestamps_s)
    reach = np.median(np.diff(timestamps_s)) / 2 if len(timestamps_s) > 1 else np.inf
    for time_s, camera in film.track:
        frame = int(np.abs(timestamps_s - time_s).argmin())
        if abs(timestamps_s[frame] - time_s) <= reach:
            cameras[frame] = camera
    return cameras


def _extract_pictures(probed: ProbedFilm, film: Pictures, kept: Kept, folder: Path, plan: FramePlan) -> ExtractedFilm:
    instants = dict(zip(kept.frames.tolist(), kept.instants.tolist(), strict=True))
    wanted = {film.pictures[frame].index: (frame, instant) for frame, instant in instants.items()}
    squares = extract_pictures(film, [film.pictures[frame] for frame in kept.frames], folder, plan)
    frames, found = zip(*(wanted[picture.index] for picture in squares.kept), strict=True)
    unknown_K, unknown_c2w = np.full((3, 3), np.nan), np.full((4, 4), np.nan)
    return ExtractedFilm(
        probed.scene,
        film,
        np.array(found),
        probed.timestamps_s[list(frames)],
        np.stack([unknown_K if K is None else K for K in squares.K]),
        np.stack([unknown_c2w if c2w is None else c2w for c2w in squares.c2w]),
        tuple(picture.split for picture in squares.kept),
        bad=tuple(BadFile(probed.scene, film, path, reason) for path, reason in squares.bad),
    )


def _name_after_instants(folder: Path, instants: NDArray[np.int64]) -> None:
    """Rename 000000.jpg, 000001.jpg, ... to their instants. Instants are never smaller, so the last goes first."""
    for number in reversed(range(len(instants))):
        if instants[number] != number:
            (folder / (FRAME_PATTERN % number)).rename(folder / (FRAME_PATTERN % instants[number]))
