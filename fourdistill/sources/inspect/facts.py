"""Facts about a folder of raw data: scenes, cameras, frames, times, poses, and warnings before a run."""

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from fourdistill.errors import InputError
from fourdistill.pictures import Header, PictureError, read_header
from fourdistill.scene import Camera, Film, LeftOut, Pictures, Scene, Video
from fourdistill.sources.formats import FORMATS, load_format
from fourdistill.sources.names import printable
from fourdistill.sources.readers import SourceFolder, read_folder
from fourdistill.video.films import BadFile, ProbedFilm, cameras_of_frames, probe_film
from fourdistill.video.kept_frames import keep_frames
from fourdistill.video.pictures import camera_upright
from fourdistill.video.timeline import agree, is_variable_rate
from fourdistill.video.upright import MIRRORED


@dataclass(frozen=True)
class CameraFacts:
    """One camera's film; if it cannot be used, `error` is the reason and the rest is empty."""

    name: str
    path: str
    num_frames: int = 0
    fps: float | None = None
    """Median rate; None for a single frame or without a clock."""
    variable_rate: bool = False
    start_s: float = 0.0
    duration_s: float = 0.0
    """From the first frame to the last."""
    width: int = 0
    height: int = 0
    has_poses: bool = False
    num_posed: int = 0
    moves: bool = False
    focal_px: float | None = None
    distorted: bool = False
    notes: list[str] = field(default_factory=list)
    """Treatments of the film's pictures and omissions from it, one line each."""
    error: str | None = None


@dataclass(frozen=True)
class SceneFacts:
    """One scene: its cameras, the source of its poses, and warnings."""

    name: str
    caption: str | None
    duration_s: float
    has_clock: bool
    pose_source: str | None
    splits: dict[str, int]
    """Number of frames per split in the source format."""
    cameras: list[CameraFacts]
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FolderFacts:
    """A whole folder, read as one format."""

    format: str
    scenes: list[SceneFacts]
    left_out: list[LeftOut]
    """Files that no scene uses, and unused content of descriptions, by reason."""


def inspect_folder(source: SourceFolder) -> tuple[FolderFacts, list[Scene]]:
    """Read and probe one source, decoding as few frames as possible; raises `InputError` if it cannot be read."""
    found = read_folder(source)
    return FolderFacts(source.format, [_scene_facts(scene) for scene in found.scenes], found.left_out), found.scenes


def find_format(folder: Path) -> str:
    """Determine the format of a folder of raw data from its files; raises `InputError` if it is no folder."""
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of raw data, found none")
    return next(name for name in FORMATS if load_format(name).is_in(folder))


def _scene_facts(scene: Scene) -> SceneFacts:
    probed = [probe_film((scene.name, film)) for film in scene.videos]
    good = [film for film in probed if isinstance(film, ProbedFilm)]
    cameras = [_camera_facts(film, scene.has_clock) for film in good]
    cameras += [
        CameraFacts(file.film.camera_id, str(file.path), error=file.reason)
        for file in probed
        if isinstance(file, BadFile)
    ]
    times = [film.timestamps_s for film in good]
    duration = max(t[-1] for t in times) - min(t[0] for t in times) if times else 0.0
    splits = Counter(split or scene.split or "not said" for film in good for split in _splits(film))
    return SceneFacts(
        scene.name,
        scene.caption,
        float(duration),
        scene.has_clock,
        scene.pose_source,
        dict(splits),
        sorted(cameras, key=lambda camera: camera.name),
        [*scene.warnings, *_warnings(scene, good, cameras)],
    )


def _splits(film: ProbedFilm) -> list[str | None]:
    if isinstance(film.film, Pictures):
        return [picture.split for picture in film.film.pictures]
    return [None] * len(film.timestamps_s)


def _camera_facts(probed: ProbedFilm, has_clock: bool) -> CameraFacts:
    film, times = probed.film, probed.timestamps_s
    cameras = known_cameras(film, probed)
    posed = [camera for camera in cameras if camera is not None]
    size = (probed.info.width, probed.info.height) if probed.info else _picture_size(film)
    step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    shrink = size[0] / posed[0].size[0] if posed else 0.0
    return CameraFacts(
        name=film.camera_id,
        path=str(film.path),
        num_frames=len(times),
        fps=1 / step if has_clock and step > 0 else None,
        variable_rate=is_variable_rate(times),
        start_s=float(times[0]),
        duration_s=float(times[-1] - times[0]),
        width=size[0],
        height=size[1],
        has_poses=bool(posed),
        num_posed=len(posed),
        moves=any(not np.array_equal(camera.c2w, posed[0].c2w) for camera in posed),
        focal_px=float(posed[0].K[0, 0] * shrink) if posed else None,
        distorted=any(camera.distortion is not None for camera in posed),
        notes=probed.info.notes(film.background) if probed.info else [],
    )


def known_cameras(film: Film, probed: ProbedFilm) -> list[Camera | None]:
    """The camera of each frame of a film, None if unknown."""
    if isinstance(film, Pictures):
        return [camera_upright(picture) for picture in film.pictures]
    assert probed.info is not None
    return cameras_of_frames(film, probed.info.timestamps_s)


def _picture_size(film: Film) -> tuple[int, int]:
    """(width, height) of the first readable picture of a film, upright; (0, 0) if none is readable."""
    pictures = film.pictures if isinstance(film, Pictures) else ()
    headers = (_header(picture.path) for picture in pictures)
    return next((header.upright_size for header in headers if header is not None), (0, 0))


def _header(path: Path) -> Header | None:
    try:
        return read_header(path)
    except PictureError:
        return None


def _picture_warnings(film: Film) -> list[str]:
    """Warnings from the headers of a film's pictures."""
    pictures = film.pictures if isinstance(film, Pictures) else ()
    headers = [_header(picture.path) for picture in pictures]
    known = [header for header in headers if header is not None]
    lines = []
    if None in headers:
        example = pictures[headers.index(None)].path.name
        lines.append(f"{headers.count(None)} of {len(headers)} pictures cannot be read, such as {example}")
    if len(found := {header.upright_size for header in known}) > 1:
        lines.append(f"pictures of {len(found)} sizes: {', '.join(f'{w}x{h}' for w, h in sorted(found)[:4])}")
    if turned := sum(header.orientation > 1 for header in known):
        lines.append(f"{turned} of {len(headers)} pictures are turned upright by their EXIF orientation, cameras along")
    if mirrored := sum(header.orientation in MIRRORED for header in known):
        lines.append(f"{mirrored} of {len(headers)} pictures are mirrored by it: see docs/data.md")
    return [f"{film.camera_id}: {line}" for line in lines]


def _shared_instants(films: list[ProbedFilm]) -> int | None:
    """The number of instants with several cameras in a scene of pictures; None with one camera, or for films."""
    cameras = [film.film for film in films if isinstance(film.film, Pictures)]
    seen = Counter(picture.index for camera in cameras for picture in camera.pictures)
    return sum(number > 1 for number in seen.values()) if len(cameras) > 1 else None


def _warnings(scene: Scene, good: list[ProbedFilm], cameras: list[CameraFacts]) -> list[str]:
    lines = [f"{printable(piece.path.name)}: skipped: {piece.reason}" for piece in scene.bad]
    lines += [f"{camera.name}: skipped: {camera.error}" for camera in cameras if camera.error]
    lines += [line for film in good for line in _picture_warnings(film.film)]
    lines += [
        f"{camera.name}: variable frame rate: its presentation times count"
        for camera in cameras
        if camera.variable_rate and scene.has_clock
    ]
    lines += [f"{camera.name}: {note}" for camera in cameras for note in camera.notes]
    if (shared := _shared_instants(good)) is not None and not shared:
        lines.append("no two cameras' pictures have a time, a name or a number in common: no view pairs")
    if good and not any(camera.has_poses for camera in cameras):
        advice = "`poses: estimate` estimates them" if len(cameras) > 1 else "one static camera has none to estimate"
        lines.append(f"no poses: pairs in time only; {advice}")
    lines += [
        f"{camera.name}: {camera.num_frames - camera.num_posed} of {camera.num_frames} frames have no pose"
        for camera in cameras
        if 0 < camera.num_posed < camera.num_frames
    ]
    lines += [f"{camera.name}: its lens distorts, which is undone" for camera in cameras if camera.distorted]
    together = len(good) > 1 and isinstance(good[0].film, Video)
    if together and not agree([film.timestamps_s for film in good]):
        starts = ", ".join(f"{film.film.camera_id} {film.timestamps_s[0]:.3f} s" for film in good)
        lines.append(f"frame numbers do not agree (starts: {starts}): frames are matched by time; see sync.csv")
    _, missing = keep_frames([replace(scene, fps=None)], good, None)
    lines += [f"{film.film.camera_id}: lacks {num} of the scene's instants" for film, num in missing]
    return lines
