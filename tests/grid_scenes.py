"""Rows of a frames table for scenes on a camera x time grid."""

from pathlib import Path

import pyarrow as pa
from tiny_scenes import SIZE, ring_cameras

from fourdistill.tables import FRAMES, write_table

NUM_CAMERAS, NUM_FRAMES = 4, 9


def frame_rows(scene: str, split: str, *, posed: bool = True, seconds: float = 2.0) -> list[dict]:
    """Rows of the frames table for a scene that lasts `seconds`; cameras stand on a ring, 90 degrees apart."""
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
            "scene_scale": 3.0 if posed else None,
            "caption": f"a man in a {scene}",
            "split": split,
        }
        for camera in range(NUM_CAMERAS)
        for index in range(NUM_FRAMES)
    ]


def write_frames(path: Path, rows: list[dict]) -> Path:
    write_table(pa.Table.from_pylist(rows, schema=FRAMES), path)
    return path
