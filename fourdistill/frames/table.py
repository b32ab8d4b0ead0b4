"""Extracted films to the rows of the frames table: what a scene has in common (time, scale), then each camera's."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fourdistill.frames.splits import SplitRule
from fourdistill.geometry.poses import Array, distinct_poses
from fourdistill.geometry.scene_frame import fit_scene_frame
from fourdistill.scene import Scene
from fourdistill.tables import FRAMES, fixed_lists
from fourdistill.video.films import ExtractedFilm


def frames_table(scenes: Sequence[Scene], films: Sequence[ExtractedFilm], size: int, split: SplitRule) -> pa.Table:
    """The frames table (schema `FRAMES`) of extracted films, in order of scene, camera and frame."""
    by_name = {scene.name: scene for scene in scenes}
    by_scene: dict[str, list[ExtractedFilm]] = {}
    for film in films:
        by_scene.setdefault(film.scene, []).append(film)
    parts = [_scene_rows(films, by_name[scene], size, split) for scene, films in sorted(by_scene.items())]
    return pa.concat_tables(parts).combine_chunks()


def _scene_rows(films: list[ExtractedFilm], scene: Scene, size: int, split: SplitRule) -> pa.Table:
    """The rows of one scene, one part per camera."""
    first_s = min(film.timestamps_s[0] for film in films)
    span_s = max(film.timestamps_s[-1] for film in films) - first_s
    poses = np.concatenate([distinct_poses(film.c2w) for film in films])
    frame = fit_scene_frame(poses) if len(poses) else None
    parts = []
    for film in sorted(films, key=lambda film: film.film.camera_id):
        time = ((film.timestamps_s - first_s) / (span_s or 1.0)).astype(np.float32)
        posed = np.isfinite(film.c2w).all(axis=(1, 2))
        num_frames = len(time)
        constant: dict[str, Any] = {
            "scene": film.scene,
            "camera": film.film.camera_id,
            "width": size,
            "height": size,
            "caption": scene.caption,
        }
        columns = {name: pa.array([value] * num_frames, FRAMES.field(name).type) for name, value in constant.items()}
        columns |= {
            "frame_index": pa.array(film.instants.astype(np.int32)),
            "timestamp_s": pa.array(film.timestamps_s),
            "time": pa.array(time),
            "path": pa.array([f"{film.scene}/{film.film.camera_id}/{index:06d}.jpg" for index in film.instants]),
            "K": _nullable(film.K),
            "c2w": _nullable(film.c2w),
            "scene_scale": pa.array(np.full(num_frames, frame.scale if frame else 0.0), mask=~posed | (frame is None)),
            "split": pa.array(split.split(film.scene, film.film.camera_id, time, film.splits, scene.split)),
        }
        parts.append(pa.table([columns[name] for name in FRAMES.names], schema=FRAMES))
    return pa.concat_tables(parts)


def _nullable(matrices: Array) -> pa.Array:
    """Matrices (N, n, n) as a fixed-size-list column, null where NaN."""
    flat = matrices.reshape(len(matrices), -1)
    known = np.asarray(np.isfinite(flat).all(axis=1))
    return fixed_lists(np.where(known[:, None], flat, 0.0), pa.float64(), known)
