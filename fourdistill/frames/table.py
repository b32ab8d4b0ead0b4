"""Convert extracted films to rows of the scenes table (one per scene) and of the frames table (one per frame)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fourdistill.frames.scenes_table import scene_row
from fourdistill.frames.splits import SplitRule
from fourdistill.geometry.poses import Array, distinct_poses
from fourdistill.geometry.scene_frame import fit_scene_frame
from fourdistill.scene import Scene
from fourdistill.tables import FRAMES, fixed_lists
from fourdistill.video.films import ExtractedFilm


def frames_tables(
    scenes: Sequence[Scene], films: Sequence[ExtractedFilm], size: int, split: SplitRule
) -> tuple[pa.Table, pa.Table]:
    """The frames table of extracted films, in order of scene, camera and frame, and the scenes table (`SCENES`)."""
    by_name = {scene.name: scene for scene in scenes}
    by_scene: dict[str, list[ExtractedFilm]] = {}
    for film in films:
        by_scene.setdefault(film.scene, []).append(film)
    frames, rows = [], []
    for name, of_scene in sorted(by_scene.items()):
        first_s = min(film.timestamps_s[0] for film in of_scene)
        duration_s = max(film.timestamps_s[-1] for film in of_scene) - first_s
        poses = np.concatenate([distinct_poses(film.c2w) for film in of_scene])
        frames.append(_frame_rows(of_scene, by_name[name], first_s, duration_s, size, split))
        rows.append(scene_row(name, fit_scene_frame(poses), duration_s))
    return pa.concat_tables(frames).combine_chunks(), pa.concat_tables(rows).combine_chunks()


def _frame_rows(
    films: list[ExtractedFilm], scene: Scene, first_s: float, duration_s: float, size: int, split: SplitRule
) -> pa.Table:
    """The rows of one scene, one part per camera."""
    parts = []
    for film in sorted(films, key=lambda film: film.film.camera_id):
        time = ((film.timestamps_s - first_s) / (duration_s or 1.0)).astype(np.float32)
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
            "split": pa.array(split.split(film.scene, film.film.camera_id, time, film.splits, scene.split)),
        }
        parts.append(pa.table([columns[name] for name in FRAMES.names], schema=FRAMES))
    return pa.concat_tables(parts)


def _nullable(matrices: Array) -> pa.Array:
    """Matrices (N, n, n) as a fixed-size-list column, null where NaN."""
    flat = matrices.reshape(len(matrices), -1)
    known = np.asarray(np.isfinite(flat).all(axis=1))
    return fixed_lists(np.where(known[:, None], flat, 0.0), pa.float64(), known)
