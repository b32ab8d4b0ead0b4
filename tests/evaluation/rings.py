"""Grids of cameras on a ring."""

import numpy as np

from fourdistill.evaluation.metrics.retrieval import Grid
from fourdistill.evaluation.protocol.command import FrameKey
from fourdistill.geometry.displacement import Placement


def ring(num_cameras: int = 8, num_frames: int = 16) -> Grid:
    cells = [(camera, frame) for camera in range(num_cameras) for frame in range(num_frames)]
    azimuth = np.array([2 * np.pi * camera / num_cameras for camera, _ in cells])
    return Grid(
        keys=[FrameKey("s", f"cam{camera:02d}", frame) for camera, frame in cells],
        frame=np.array([frame for _, frame in cells]),
        seen=Placement(
            time=np.array([frame / (num_frames - 1) for _, frame in cells]),
            timestamp_s=np.array([frame / 10 for _, frame in cells]),
            c2w=np.zeros((len(cells), 4, 4)),  # not used
            spherical=np.stack([azimuth, np.full(len(cells), 0.2), np.ones(len(cells))], axis=1),
            scale=np.ones(len(cells)),
        ),
    )
