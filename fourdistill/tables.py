"""The Parquet tables: their Arrow schemas with a description of every field, and functions to read and write them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fourdistill.errors import InputError, one_line
from fourdistill.storage.files import new_file

FORMAT_VERSION = 1  # of the layout of tables and indices; releases with the same version write the same bytes
VERSION_KEY = b"fourdistill.format_version"
SPLITS = ("train", "val", "test")
KINDS = ("time", "view", "joint")
CAMERA, TEACHER = "camera", "teacher"  # origins of frames


def _field(name: str, dtype: pa.DataType, description: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, dtype, nullable=nullable, metadata={"description": description})


def _schema(*fields: pa.Field) -> pa.Schema:
    return pa.schema(fields, metadata={VERSION_KEY: str(FORMAT_VERSION).encode()})


FRAMES = _schema(
    _field("scene", pa.string(), "what is filmed; unique over all sources"),
    _field("camera", pa.string(), "which camera of the scene"),
    _field("frame_index", pa.int32(), "number of the instant: 0, 1, ... in a film; synchronised cameras agree on it"),
    _field("timestamp_s", pa.float64(), "presentation time in seconds, from the container, offset included"),
    _field("time", pa.float32(), "(timestamp_s - first) / (last - first) over the scene's frames, in [0, 1]"),
    _field("path", pa.string(), "JPEG file, relative to the frames folder"),
    _field("width", pa.int32(), "pixels"),
    _field("height", pa.int32(), "pixels"),
    _field("K", pa.list_(pa.float64(), 9), "intrinsics, row by row, after crop and resize; centres at +0.5", True),
    _field("c2w", pa.list_(pa.float64(), 16), "camera-to-world, row by row, OpenCV axes, the source's units", True),
    _field("caption", pa.string(), "what is seen, in a sentence", True),
    _field("split", pa.string(), "train, val or test"),
)

TEACHER_FRAMES = FRAMES.append(_field("origin", pa.string(), f"{TEACHER}; frames of cameras lack this column")).append(
    _field("confidence", pa.float32(), "in (0, 1]; 1 is as good as a real frame, 0.5 is at the bound of the gate")
)

SCENES = _schema(
    _field("scene", pa.string(), "as in the frames table"),
    _field("center", pa.list_(pa.float64(), 3), "nearest to all optical axes; null where they fix no point", True),
    _field("axes", pa.list_(pa.float64(), 9), "rows east, north, up, orthonormal; null where there is no centre", True),
    _field("scale", pa.float64(), "median distance of the cameras from the centre, in the source's units", True),
    _field("duration_s", pa.float64(), "timestamp_s of the last frame minus that of the first, over all cameras"),
)

POSES = _schema(
    _field("scene", pa.string(), "as in the frames table"),
    _field("camera", pa.string(), "as in the frames table"),
    _field("timestamp_s", pa.float64(), "of the frame, by its container; null: of all frames of a still camera", True),
    _field("width", pa.int32(), "pixels of the film that K speaks of"),
    _field("height", pa.int32(), "pixels of the film that K speaks of"),
    _field("K", pa.list_(pa.float64(), 9), "intrinsics, row by row, pixel centres at +0.5"),
    _field("c2w", pa.list_(pa.float64(), 16), "camera-to-world, row by row, OpenCV axes; the scene's scale is 1"),
)

PAIRS = _schema(
    _field("pair_id", pa.int64(), "0, 1, ... over the whole table"),
    _field("kind", pa.string(), "time: one camera, two instants; view: one instant, two cameras; joint: both differ"),
    _field("scene", pa.string(), "as in the frames table"),
    _field("source_camera", pa.string(), "camera of frame j, the condition"),
    _field("source_frame", pa.int32(), "frame_index of frame j, the condition"),
    _field("target_camera", pa.string(), "camera of frame i, which is reconstructed"),
    _field("target_frame", pa.int32(), "frame_index of frame i, which is reconstructed"),
    _field(
        "gap",
        pa.int32(),
        "the paper's d = source_frame - target_frame: positive leads back in time; gap_s and normalized_gap have its "
        "sign, while relative_pose and delta_... lead from the source to the target",
    ),
    _field("gap_s", pa.float64(), "timestamp_s of the source minus that of the target"),
    _field(
        "normalized_gap", pa.float32(), "d by the one declared normaliser, in [-1, 1]: minus the time of a displacement"
    ),
    _field(
        "relative_pose",
        pa.list_(pa.float32(), 12),
        "rows of the 3x4 source_from_target = inv(c2w_source) @ c2w_target, translation over the scene's scale; "
        "null for kind time",
        True,
    ),
    _field("delta_azimuth", pa.float32(), "target - source, rad, counter-clockwise from above; null for time", True),
    _field("delta_elevation", pa.float32(), "target - source, rad, upwards; null for kind time", True),
    _field("delta_radius", pa.float32(), "target - source, over the scene's scale; null for kind time", True),
    _field("caption", pa.string(), "of the scene", True),
    _field("split", pa.string(), "train, val or test"),
)

WEIGHTED_PAIRS = PAIRS.append(
    _field("weight", pa.float32(), "of the pair in a loss, in (0, 1]: the confidence of the target; absent: 1")
)


def fixed_lists(rows: np.ndarray, dtype: pa.DataType, valid: np.ndarray | None = None) -> pa.Array:
    """Array (N, n) => N lists of fixed length n, null where `valid` (N,) is False."""
    mask = None if valid is None else pa.array(~valid)
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1), dtype), rows.shape[1], mask=mask)


def to_matrices(column: pa.ChunkedArray, shape: tuple[int, ...]) -> np.ndarray:
    """A fixed-size-list column (N,) => float64 (N, *shape), NaN where null."""
    lists = column.combine_chunks()
    matrices = np.full((len(lists), int(np.prod(shape))), np.nan)
    valid = ~np.asarray(lists.is_null())
    matrices[valid] = np.asarray(lists.flatten()).reshape(-1, matrices.shape[1])  # flatten omits nulls
    return matrices.reshape(-1, *shape)


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table of one of the schemas above; the same rows give the same bytes."""
    with new_file(path) as partial:
        pq.write_table(table, partial, compression="zstd")


def has_column(path: Path, name: str) -> bool:
    """Whether a table has a column that its schema does not demand; False if there is no such table."""
    try:
        return path.is_file() and name in pq.read_schema(path).names
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: expected a Parquet table: {one_line(error)}") from error


def read_table(path: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table and check it against its schema; raises `InputError` naming the file and the column."""
    if not path.is_file():
        raise InputError(f"{path}: expected a Parquet table, found none; run the stage before this one")
    try:
        found = pq.read_schema(path)
        wrong = [
            field for field in schema if field.name not in found.names or found.field(field.name).type != field.type
        ]
        if wrong:
            raise InputError(f"{path}: column {wrong[0].name}: expected {wrong[0].type}")
        return pq.read_table(path, columns=list(columns or schema.names))
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: expected a readable Parquet table: {' '.join(str(error).split())}") from error
