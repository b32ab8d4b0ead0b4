"""Estimate poses by structure from motion for films that have none; static cameras are detected first."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from fourdistill.geometry import camera as camera_geometry
from fourdistill.geometry.scene_frame import fit_scene_frame
from fourdistill.poses.settings import EstimatePoses
from fourdistill.poses.still_camera import is_still
from fourdistill.poses.structure_from_motion import MIN_PICTURES, reconstruct
from fourdistill.poses.table import PoseRow, poses_table
from fourdistill.scene import Camera, Scene, Video
from fourdistill.storage.files import new_file
from fourdistill.tables import write_table
from fourdistill.video.decode import read_frames
from fourdistill.video.film_filters import Cut
from fourdistill.video.films import BadFile, ProbedFilm, probe_film
from fourdistill.video.kept_frames import keep_frames
from fourdistill.video.probe import VideoError
from fourdistill.video.timeline import Kept


@dataclass(frozen=True)
class Posed:
    """The result for one film: how many of its images were tried and registered."""

    scene: str
    camera: str
    still: bool
    pictures: int
    registered: int
    reprojection_error_px: float | None
    """Mean over the scene's points, at `size`; None if nothing was registered."""
    note: str | None = None


@dataclass(frozen=True)
class _Sampled:
    """The sampled images of one film, their container times (n,), and the full size of the film."""

    probed: ProbedFilm
    still: bool
    images: list[Image.Image]
    times_s: np.ndarray
    full_size: tuple[int, int]


def estimate_poses(
    scenes: Sequence[Scene],
    table_path: Path,
    report_path: Path,
    settings: EstimatePoses,
    *,
    seed: int,
) -> None:
    """Write the poses table (schema `POSES`) and a report on the films of `scenes`; without scenes, the table is empty.

    At most `settings.max_pictures` evenly spaced images of each film are used, with a longer side of at most
    `settings.size` pixels; a static camera needs one image. Poses are scaled so that the cameras' median distance from
    the scene's centre is 1. Unregistered images have no row. Raises `InputError` if pycolmap is not installed.
    """
    rows, reports = [], []
    for scene in tqdm(scenes, desc="estimate_poses", unit="scene"):
        found, report = _scene_poses(scene, settings, seed)
        rows += found
        reports += report
    with new_file(report_path) as partial:
        partial.write_text(json.dumps([asdict(report) for report in reports], indent=2) + "\n", encoding="utf-8")
    write_table(poses_table(rows), table_path)


def _scene_poses(scene: Scene, settings: EstimatePoses, seed: int) -> tuple[list[PoseRow], list[Posed]]:
    """The table rows and the report of one scene."""
    probed = [probe_film((scene.name, film)) for film in scene.videos]
    reports = [
        Posed(scene.name, file.film.camera_id, False, 0, 0, None, file.reason)
        for file in probed
        if isinstance(file, BadFile)
    ]
    tasks, _ = keep_frames([scene], [film for film in probed if isinstance(film, ProbedFilm)], None)
    samples = []
    for film, kept in tasks:
        try:
            samples.append(_sample(film, kept, settings))
        except VideoError as error:
            reports.append(Posed(scene.name, film.film.camera_id, False, 0, 0, None, str(error)))
    images = [image for sample in samples for image in sample.images]
    if len(images) < MIN_PICTURES:
        note = f"expected a camera that moves, or {MIN_PICTURES} that stand still"
        return [], reports + [_report(sample, 0, None, note) for sample in samples]

    owners = [number for number, sample in enumerate(samples) for _ in sample.images]
    found = reconstruct(images, cameras=owners, seed=seed)
    c2w = _normalized(found.c2w, found.registered)
    error = found.reprojection_error if found.registered.any() else None
    rows = []
    for number, sample in enumerate(samples):
        mine = np.flatnonzero(np.array(owners) == number)
        registered = [index for index in mine if found.registered[index]]
        for index in registered:
            K = camera_geometry.resize(found.K[index], images[index].size, sample.full_size)
            time_s = None if sample.still else float(sample.times_s[index - mine[0]])
            name = sample.probed.film.camera_id
            rows.append(PoseRow(scene.name, name, time_s, Camera(K, sample.full_size, c2w[index])))
        reports.append(_report(sample, len(registered), error, None))
    return rows, reports


def _report(sample: _Sampled, registered: int, error: float | None, note: str | None) -> Posed:
    film = sample.probed
    return Posed(film.scene, film.film.camera_id, sample.still, len(sample.images), registered, error, note)


def _sample(probed: ProbedFilm, kept: Kept, settings: EstimatePoses) -> _Sampled:
    """Evenly spaced images of a film; only the middle one if the camera is static."""
    film, info = probed.film, probed.info
    if info is None or not isinstance(film, Video):
        raise VideoError("expected a film to estimate poses of, found pictures")
    if not len(kept.frames):
        raise VideoError("expected a frame at one of the scene's instants, found none")
    num = min(settings.max_pictures, len(kept.frames))
    chosen = kept.frames[np.unique(np.linspace(0, len(kept.frames) - 1, num).round().astype(int))]
    shrink = min(1.0, settings.size / max(info.width, info.height))
    width, height = (max(2, round(length * shrink)) for length in (info.width, info.height))
    cut = Cut((0, 0, info.width, info.height), (width, height))
    found = [(number, Image.fromarray(image)) for number, image in read_frames(film, info, chosen, cut, threads=0)]
    if not found:
        raise VideoError(f"expected {len(chosen)} frames as the container lists, decoded none")
    images, times_s = [image for _, image in found], info.timestamps_s[[number for number, _ in found]]
    still = is_still(images)
    used = slice(len(images) // 2, len(images) // 2 + 1) if still else slice(None)
    return _Sampled(probed, still, images[used], times_s[used], (info.width, info.height))


def _normalized(c2w: np.ndarray, registered: np.ndarray) -> np.ndarray:
    """Poses (N, 4, 4), NaN where unknown, translated and scaled so that the scene's centre is 0 and its scale 1."""
    known = c2w[registered]
    if not len(known):
        return c2w
    frame = fit_scene_frame(known)
    center = frame.center if frame else known[:, :3, 3].mean(0)
    scale = frame.scale if frame else float(np.median(np.linalg.norm(known[:, :3, 3] - center, axis=1)))
    c2w = c2w.copy()
    c2w[:, :3, 3] = (c2w[:, :3, 3] - center) / (scale or 1.0)
    return c2w
