"""Frames of real cameras and of the teacher's cameras together, for the stages after `reconstruct`.

The teacher's frames have a table and a folder of their own, so that evaluation, which reads only the real ones, never
sees them. Their cameras have names of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from fourdistill.storage.store import Store, open_set
from fourdistill.tables import CAMERA, FRAMES, TEACHER_FRAMES, read_table

ORDER = ("scene", "camera", "frame_index")
"""The columns by which tables of frames are sorted."""


@dataclass(frozen=True)
class TeacherFrames:
    """The output of `reconstruct`: a table, and a folder or an address with the frames."""

    table: Path
    frames: Path | str


def read_all_frames(
    frames_table: Path, teacher: TeacherFrames | None, columns: Sequence[str] = FRAMES.names
) -> pa.Table:
    """Some columns of both tables (`ORDER` among them), with `origin` and `confidence`, sorted by `ORDER`.

    Raises `InputError` if a table is missing or broken.
    """
    real = read_table(frames_table, FRAMES, columns)
    real = real.append_column("origin", pa.repeat(CAMERA, len(real)))
    real = real.append_column("confidence", pa.array(np.ones(len(real), np.float32)))
    if teacher is None:
        return real
    taught = read_table(teacher.table, TEACHER_FRAMES, [*columns, "origin", "confidence"])
    if not len(taught):
        return real
    both = pa.concat_tables([real, taught.cast(real.schema)])
    return both.sort_by([(name, "ascending") for name in ORDER])


@dataclass(frozen=True)
class FrameStores:
    """The store of real frames and, if there are any, that of the teacher's frames and its (scene, camera) names."""

    real: Store
    teacher: Store | None = None
    cameras: frozenset[tuple[str, str]] = frozenset()

    def of(self, scene: str, camera: str) -> Store:
        """The store with the frames of a camera."""
        return self.teacher if self.teacher is not None and (scene, camera) in self.cameras else self.real


def open_frames(frames: Path | str, teacher: TeacherFrames | None) -> FrameStores:
    """Open both sets of frames; raises `InputError` if an address lacks a complete one."""
    real = open_set(frames, "extract_frames")
    if teacher is None:
        return FrameStores(real)
    names = read_table(teacher.table, TEACHER_FRAMES, ["scene", "camera"]).group_by(["scene", "camera"]).aggregate([])
    cameras = frozenset(zip(names["scene"].to_pylist(), names["camera"].to_pylist(), strict=True))
    return FrameStores(real, open_set(teacher.frames, "reconstruct"), cameras)
