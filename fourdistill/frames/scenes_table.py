"""The scenes table: a coordinate frame fitted once per scene, and the placement of the video frames in it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from fourdistill.errors import InputError
from fourdistill.geometry.displacement import Placement
from fourdistill.geometry.scene_frame import SceneFrame, spherical
from fourdistill.tables import FRAMES, SCENES, read_table, to_matrices


def scene_row(name: str, frame: SceneFrame | None, duration_s: float) -> pa.Table:
    """One row of the scenes table; a scene without a coordinate frame counts as one without poses."""
    row = {"scene": name, "center": None, "axes": None, "scale": None, "duration_s": duration_s}
    if frame is not None:
        row |= {"center": frame.center.tolist(), "axes": frame.axes.ravel().tolist(), "scale": frame.scale}
    return pa.Table.from_pylist([row], schema=SCENES)


def read_scenes(scenes_table: Path) -> dict[str, SceneFrame | None]:
    """The coordinate frame of every scene; None if it has none."""
    rows = read_table(scenes_table, SCENES).to_pylist()
    return {row["scene"]: _frame(row) for row in rows}


def _frame(row: dict) -> SceneFrame | None:
    if row["scale"] is None:
        return None
    return SceneFrame(np.array(row["center"]), np.reshape(row["axes"], (3, 3)), row["scale"])


def read_frames(frames_table: Path, scenes_table: Path) -> tuple[pa.Table, Placement]:
    """The frames table, and the time and viewpoint of each of its frames, in the same order.

    Raises `InputError` if a table is missing or broken, or if the scenes table lacks a scene of the frames table.
    """
    table = read_table(frames_table, FRAMES)
    return table, read_placement(table, frames_table, scenes_table)


def read_placement(table: pa.Table, frames_table: Path, scenes_table: Path) -> Placement:
    """The placement of rows of a table of frames; raises `InputError` if the scenes table lacks one of their scenes."""
    scenes = read_scenes(scenes_table)
    if missing := sorted(set(table["scene"].unique().to_pylist()) - set(scenes)):
        raise InputError(f"{scenes_table}: scene: expected {missing[0]}, as in {frames_table}, found none")
    return place(table, scenes)


def place(table: pa.Table, scenes: Mapping[str, SceneFrame | None]) -> Placement:
    """Rows of the frames table => their placement (F,), NaN where a pose or the scene's coordinate frame is unknown."""
    c2w = to_matrices(table["c2w"], (4, 4))
    positions, scale = np.full((len(c2w), 3), np.nan), np.full(len(c2w), np.nan)
    posed = np.isfinite(c2w).all(axis=(1, 2))
    names = table["scene"].combine_chunks().dictionary_encode()
    codes = names.indices.to_numpy()
    for code, name in enumerate(names.dictionary.to_pylist()):
        frame = scenes[name]
        if frame is not None:
            rows = np.flatnonzero(posed & (codes == code))
            positions[rows], scale[rows] = spherical(frame, c2w[rows]), frame.scale
    return Placement(table["time"].to_numpy(), table["timestamp_s"].to_numpy(), c2w, positions, scale)
