"""Rows of a frames table for scenes on a camera x time grid."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from tiny_scenes import SIZE, ring_cameras

from fourdistill.frames.scenes_table import scene_row
from fourdistill.geometry.scene_frame import fit_scene_frame
from fourdistill.tables import FRAMES, to_matrices, write_table

NUM_CAMERAS, NUM_FRAMES = 4, 9


def frame_rows(scene: str, split: str, *, posed: bool = True, seconds: float = 2.0) -> list[dict]:
    """Rows of the frames table for a scene of `seconds`; cameras are on a ring, 90 degrees apart."""
    poses = ring_cameras(NUM_CAMERAS)
    return [
        {
            "scene": scene,
            "camera": f"cam{camera:02d}",
            "frame_index": index,
            "timestamp_s": seconds * index / (NUM_FRAMES - 1),
            "time": index / (NUM_FRAMES - 1),
            "path": f"{scene}/cam{camera:02d}/{index:06d}.jpg",
            "width": SIZE,
            "height": SIZE,
            "K": [40.0, 0, SIZE / 2, 0, 40.0, SIZE / 2, 0, 0, 1.0],
            "c2w": poses[camera].ravel().tolist() if posed else None,
            "caption": f"a man in a {scene}",
            "split": split,
        }
        for camera in range(NUM_CAMERAS)
        for index in range(NUM_FRAMES)
    ]


def write_frames(path: Path, rows: list[dict]) -> Path:
    """Write a frames table, and the scenes table beside it; returns the path of the first."""
    table = pa.Table.from_pylist(rows, schema=FRAMES)
    write_table(table, path)
    write_scenes(table, path.with_name("scenes.parquet"))
    return path


def write_scenes(frames: pa.Table, path: Path) -> Path:
    """Write the scenes table for a frames table."""
    c2w, names = to_matrices(frames["c2w"], (4, 4)), np.array(frames["scene"].to_pylist())
    times = frames["timestamp_s"].to_numpy()
    rows = []
    for name in np.unique(names):
        poses, of_scene = c2w[names == name], times[names == name]
        frame = fit_scene_frame(np.unique(poses[np.isfinite(poses).all(axis=(1, 2))], axis=0))
        rows.append(scene_row(str(name), frame, float(np.ptp(of_scene))))
    write_table(pa.concat_tables(rows).combine_chunks(), path)
    return path
