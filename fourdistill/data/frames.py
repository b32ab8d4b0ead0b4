"""Scenes to frames: every video to JPEGs, and one table of all frames."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa

from fourdistill.data.decode import FramePlan, decode_frames, find_ffmpeg
from fourdistill.data.fanout import fan_out
from fourdistill.data.files import new_file, new_folder
from fourdistill.data.probe import VideoError, probe_video
from fourdistill.data.scene import Scene, Video
from fourdistill.data.splits import SplitRule
from fourdistill.data.tables import FRAMES, fixed_lists, write_table
from fourdistill.errors import InputError
from fourdistill.geometry.displacement import fit_scene_frame
from fourdistill.geometry.poses import Array


@dataclass(frozen=True)
class FilmedVideo:
    """One video that was extracted: `timestamps_s` (N,), K (3, 3) of its JPEGs or None."""

    scene: str
    video: Video
    timestamps_s: np.ndarray
    K: Array | None


@dataclass(frozen=True)
class BadVideo:
    """One video that was skipped, and why, in one line."""

    scene: str
    video: Video
    reason: str


def extract_frames(
    scenes: Sequence[Scene],
    frames_dir: Path,
    table_path: Path,
    report_path: Path,
    *,
    size: int,
    jpeg_quality: int = 2,
    max_frames: int | None = None,
    ffmpeg: str | None = None,
    split: SplitRule | None = None,
    engine: str = "loky",
    jobs: int = -1,
    max_bad_fraction: float = 0.05,
) -> None:
    """Write `frames_dir/<scene>/<camera>/000000.jpg ...`, the frames table and a report in JSON.

    Bad videos are skipped and listed in the report. The frames folder is replaced whole; the table is written last,
    so that it never speaks of frames that are not there. Raises `InputError` when more than `max_bad_fraction` of the
    videos are bad, which leaves nothing but the report.
    """
    tasks = [(scene.name, video) for scene in scenes for video in scene.videos]
    if not tasks:
        raise InputError("extract_frames: expected at least one video, found none")
    # Threads only where processes leave cores idle.
    threads = max(1, joblib.cpu_count() // min(joblib.effective_n_jobs(jobs), len(tasks)))
    plan = FramePlan(size, jpeg_quality, max_frames, find_ffmpeg(ffmpeg), threads)
    with new_folder(frames_dir, suffixes={".jpg"}) as partial_dir:
        work = partial(extract_video, frames_dir=partial_dir.resolve(), plan=plan)
        results = fan_out(work, tasks, engine=engine, jobs=jobs, description="extract_frames")
        good = [result for result in results if isinstance(result, FilmedVideo)]
        bad = [result for result in results if isinstance(result, BadVideo)]
        _write_report(report_path, good, bad, split or SplitRule())
        _check_bad(bad, len(tasks), max_bad_fraction, report_path)
        if not good:
            raise InputError(f"{report_path}: expected at least one good video, all {len(tasks)} are bad")
        table = frames_table(scenes, good, size, split or SplitRule())
        table_path.unlink(missing_ok=True)
    write_table(table, table_path)


def extract_video(task: tuple[str, Video], frames_dir: Path, plan: FramePlan) -> FilmedVideo | BadVideo:
    """Extract one (scene name, video) into `frames_dir/<scene>/<camera>`, which appears whole or not at all."""
    scene, video = task
    try:
        info = probe_video(video.path)
        with new_folder(frames_dir / scene / video.camera_id, suffixes={".jpg"}) as folder:
            K = decode_frames(video.path, info, video.camera, folder, plan)
    except VideoError as error:
        return BadVideo(scene, video, str(error))
    return FilmedVideo(scene, video, info.timestamps_s[: plan.max_frames], K)


def frames_table(scenes: Sequence[Scene], films: Sequence[FilmedVideo], size: int, split: SplitRule) -> pa.Table:
    """The frames table (schema `FRAMES`) of extracted videos, in order of scene, camera and frame."""
    captions = {scene.name: scene.caption for scene in scenes}
    by_scene: dict[str, list[FilmedVideo]] = {}
    for film in films:
        by_scene.setdefault(film.scene, []).append(film)
    parts = [_scene_rows(films, captions[scene], size, split) for scene, films in sorted(by_scene.items())]
    return pa.concat_tables(parts).combine_chunks()


def _scene_rows(films: list[FilmedVideo], caption: str | None, size: int, split: SplitRule) -> pa.Table:
    """The rows of one scene: what is common to it (time range, scale), then one part per camera."""
    first_s = min(film.timestamps_s[0] for film in films)
    span_s = max(film.timestamps_s[-1] for film in films) - first_s
    poses = [film.video.camera.c2w for film in films if film.video.camera is not None]
    frame = fit_scene_frame(np.stack(poses)) if poses else None
    parts = []
    for film in sorted(films, key=lambda film: film.video.camera_id):
        time = ((film.timestamps_s - first_s) / (span_s or 1.0)).astype(np.float32)
        camera = film.video.camera
        num_frames = len(time)
        constant: dict[str, Any] = {
            "scene": film.scene,
            "camera": film.video.camera_id,
            "width": size,
            "height": size,
            "scene_scale": None if frame is None or camera is None else frame.scale,
            "caption": caption,
        }
        columns = {name: pa.array([value] * num_frames, FRAMES.field(name).type) for name, value in constant.items()}
        columns |= {
            "frame_index": pa.array(np.arange(num_frames, dtype=np.int32)),
            "timestamp_s": pa.array(film.timestamps_s),
            "time": pa.array(time),
            "path": pa.array([f"{film.scene}/{film.video.camera_id}/{index:06d}.jpg" for index in range(num_frames)]),
            "K": _repeated(film.K, num_frames),
            "c2w": _repeated(None if camera is None else camera.c2w, num_frames, length=16),
            "split": pa.array(split.split(film.scene, film.video.camera_id, time)),
        }
        parts.append(pa.table([columns[name] for name in FRAMES.names], schema=FRAMES))
    return pa.concat_tables(parts)


def _repeated(matrix: Array | None, num_rows: int, length: int = 9) -> pa.Array:
    """One matrix for every row of a fixed-size-list column, or nulls."""
    flat = np.zeros(length) if matrix is None else matrix.reshape(-1)
    return fixed_lists(np.tile(flat, (num_rows, 1)), pa.float64(), np.full(num_rows, matrix is not None))


def _write_report(path: Path, good: list[FilmedVideo], bad: list[BadVideo], split: SplitRule) -> None:
    report = {
        "scenes": len({film.scene for film in good}),
        "videos": len(good),
        "frames": sum(len(film.timestamps_s) for film in good),
        "split_names_not_found": split.unmatched(
            {film.scene for film in good}, {film.video.camera_id for film in good}
        ),
        "bad": [
            {"scene": item.scene, "camera": item.video.camera_id, "path": str(item.video.path), "reason": item.reason}
            for item in bad
        ],
    }
    with new_file(path) as partial_path:
        partial_path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _check_bad(bad: list[BadVideo], num_videos: int, max_bad_fraction: float, report_path: Path) -> None:
    if len(bad) > max_bad_fraction * num_videos:
        first = bad[0]
        raise InputError(
            f"{first.video.path}: {first.reason} ({len(bad)} of {num_videos} videos are bad, expected at most "
            f"{max_bad_fraction:.0%}; {report_path} lists them)"
        )
