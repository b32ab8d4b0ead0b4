"""The table of estimated poses: create it from rows, and assign its cameras to their films."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from fourdistill.scene import Camera, Film, Scene, Video
from fourdistill.tables import POSES, fixed_lists, read_table, to_matrices


@dataclass(frozen=True)
class PoseRow:
    """The camera of one frame, or of all frames of a film."""

    scene: str
    camera_id: str
    timestamp_s: float | None
    """Container time of the frame; None: a static camera."""
    camera: Camera


def poses_table(rows: Sequence[PoseRow]) -> pa.Table:
    """Rows as a table of schema `POSES`."""
    cameras = [row.camera for row in rows]
    columns = {
        "scene": pa.array([row.scene for row in rows], pa.string()),
        "camera": pa.array([row.camera_id for row in rows], pa.string()),
        "timestamp_s": pa.array([row.timestamp_s for row in rows], pa.float64()),
        "width": pa.array([camera.size[0] for camera in cameras], pa.int32()),
        "height": pa.array([camera.size[1] for camera in cameras], pa.int32()),
        "K": fixed_lists(np.array([camera.K for camera in cameras]).reshape(-1, 9), pa.float64()),
        "c2w": fixed_lists(np.array([camera.c2w for camera in cameras]).reshape(-1, 16), pa.float64()),
    }
    return pa.table([columns[name] for name in POSES.names], schema=POSES)


def with_poses(scenes: Sequence[Scene], table_path: Path) -> list[Scene]:
    """The scenes with the cameras of the poses table assigned to their films, where it has any.

    Raises `InputError` if the table does not exist.
    """
    table = read_table(table_path, POSES)
    K, c2w = to_matrices(table["K"], (3, 3)), to_matrices(table["c2w"], (4, 4))
    tracks: dict[tuple[str, str], list[tuple[float | None, Camera]]] = {}
    for index, row in enumerate(table.select(["scene", "camera", "timestamp_s", "width", "height"]).to_pylist()):
        camera = Camera(K[index], (row["width"], row["height"]), c2w[index])
        tracks.setdefault((row["scene"], row["camera"]), []).append((row["timestamp_s"], camera))

    def posed(scene: Scene, film: Film) -> Film:
        track = tracks.get((scene.name, film.camera_id))
        if track is None or not isinstance(film, Video):
            return film
        if track[0][0] is None:
            return replace(film, camera=track[0][1])
        return replace(film, track=tuple((time_s, camera) for time_s, camera in track if time_s is not None))

    return [replace(scene, videos=tuple(posed(scene, film) for film in scene.videos)) for scene in scenes]
