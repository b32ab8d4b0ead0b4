"""Frames table to pairs table: scene grids, sampling, and the displacement columns of every pair."""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm import tqdm

from fourdistill.errors import InputError
from fourdistill.frames.all_frames import TeacherFrames, read_all_frames
from fourdistill.frames.scenes_table import read_placement
from fourdistill.geometry.displacement import Displacement, Placement
from fourdistill.geometry.poses import Array, distinct_poses
from fourdistill.pairs.sampling import FROM_TEACHER, SceneGrid, sample_pairs
from fourdistill.pairs.settings import BuildPairs, DisplacementSettings
from fourdistill.storage.files import new_file
from fourdistill.tables import KINDS, PAIRS, SPLITS, TEACHER, WEIGHTED_PAIRS, fixed_lists
from fourdistill.video.timeline import synchronised

ROW_GROUP = 500_000  # pairs: bounds memory use for tables of any length


@dataclass(frozen=True)
class FrameColumns:
    """The frames table as arrays, one row per frame, sorted as in the table."""

    table: pa.Table
    frame_index: NDArray[np.int32]
    seen: Placement
    is_taught: NDArray[np.bool_]
    """Rendered by a teacher."""

    @property
    def schema(self) -> pa.Schema:
        """Of their pairs: weights are needed only where there are frames of a teacher."""
        return WEIGHTED_PAIRS if self.is_taught.any() else PAIRS


def build_pairs(
    frames_table: Path,
    scenes_table: Path,
    pairs_table: Path,
    report_path: Path,
    gaps_path: Path,
    settings: BuildPairs,
    displacement: DisplacementSettings,
    *,
    seed: int,
    teacher: TeacherFrames | None = None,
) -> None:
    """Write the pairs table, a report in JSON, and the histogram of gaps in CSV.

    A displacement's `normalizer` is `scene` (the difference of `time`, so that 1 is the whole scene) or `seconds` (the
    difference of `timestamp_s` over `max_gap_s`, which then bounds it too).
    Frames of a `teacher` are targets of training pairs, weighted by their confidence; never sources, because the
    model's sources are real images, and never in the other splits.
    Raises `InputError` if the frames offer no pair for a requested split.
    """
    num_pairs, kinds = asdict(settings.num_pairs), asdict(settings.kinds)
    max_gap_s = displacement.max_gap_s
    if sum(kinds.values()) <= 0:
        raise InputError("build_pairs.kinds: expected a positive proportion for one of time, view, joint")
    table = read_all_frames(frames_table, teacher)
    seen = read_placement(table, frames_table, scenes_table)
    scenes = _scene_ranges(table)
    is_taught = np.asarray(table["origin"]) == TEACHER
    frames = FrameColumns(table, table["frame_index"].to_numpy(), seen, is_taught)
    grids = [_scene_grid(frames, rows, displacement.max_gap, max_gap_s) for rows in scenes]

    drawn = {}
    for split, rng in zip(SPLITS, np.random.default_rng(seed).spawn(len(SPLITS)), strict=True):
        wanted = num_pairs.get(split, 0)
        drawn[split] = sample_pairs(grids, split, wanted, kinds, bidirectional=settings.bidirectional, rng=rng)
        if wanted and not len(drawn[split][0]):
            raise InputError(
                f"{frames_table}: split {split}: expected frames for {wanted} pairs of kind "
                f"{', '.join(kind for kind in KINDS if kinds.get(kind))}, found none; "
                f"see extract_frames.split and build_pairs.num_pairs.{split}"
            )
    _write_pairs(pairs_table, frames, drawn, max_gap_s)
    _write_reports(report_path, gaps_path, frames, grids, drawn)


def _scene_ranges(table: pa.Table) -> list[slice]:
    """Consecutive rows of each scene; the table is sorted by scene, camera, frame."""
    codes = table["scene"].combine_chunks().dictionary_encode().indices.to_numpy()
    if len(codes) == 0:
        raise InputError("frames table: expected at least one frame, found none")
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], len(codes)], strict=True)]


def _scene_grid(frames: FrameColumns, rows: slice, max_gap: int | None, max_gap_s: float | None) -> SceneGrid:
    """One scene's rows of the table as a grid of cameras x instants."""
    cameras = frames.table["camera"][rows].combine_chunks().dictionary_encode().indices.to_numpy()
    index = frames.frame_index[rows]
    shape = (int(cameras.max()) + 1, int(index.max()) + 1)
    grid_rows = np.full(shape, -1, np.int64)
    grid_rows[cameras, index] = np.arange(rows.start, rows.stop)
    splits = np.full(shape, -1, np.int8)
    of_cameras = [SPLITS.index(name) for name in frames.table["split"][rows].to_pylist()]
    splits[cameras, index] = np.where(frames.is_taught[rows], FROM_TEACHER, of_cameras)
    times = np.full(shape, np.nan)
    times[cameras, index] = frames.seen.timestamp_s[rows]
    across = np.zeros(shape, bool)
    across[cameras, index] = np.isfinite(frames.seen.scale[rows])
    moving = np.array([len(distinct_poses(frames.seen.c2w[rows][cameras == camera])) > 1 for camera in range(shape[0])])
    limit = shape[1] - 1 if max_gap is None else min(max_gap, shape[1] - 1)
    return SceneGrid(grid_rows, splits, across & synchronised(times), moving, _bound_gap(times, limit, max_gap_s))


def _bound_gap(times: Array, limit: int, max_gap_s: float | None) -> int:
    """The largest gap in frames, up to `limit`, that never exceeds `max_gap_s`."""
    if max_gap_s is None:
        return limit
    known = np.isfinite(times)  # (C, N); an instant may have no frame at all
    latest, earliest = np.where(known, times, -np.inf).max(0), np.where(known, times, np.inf).min(0)
    for gap in range(1, limit + 1):
        if (latest[gap:] - earliest[:-gap]).max() > max_gap_s:
            return gap - 1
    return limit


def _write_pairs(path: Path, frames: FrameColumns, drawn: Mapping[str, tuple], max_gap_s: float | None) -> None:
    """Write all pairs, one row group at a time."""
    total = sum(len(targets) for targets, _, _ in drawn.values())
    # Dictionary encoding helps for names and captions; float columns rarely repeat values.
    names = [field.name for field in frames.schema if field.type == pa.string()]
    with (
        new_file(path) as partial,
        pq.ParquetWriter(partial, frames.schema, compression="zstd", use_dictionary=cast(Any, names)) as writer,
        tqdm(total=total, desc="build_pairs", unit="pair") as bar,
    ):
        for part in _pair_tables(frames, drawn, max_gap_s):
            writer.write_table(part, row_group_size=ROW_GROUP)
            bar.update(part.num_rows)


def _pair_tables(frames: FrameColumns, drawn: Mapping[str, tuple], max_gap_s: float | None) -> Iterator[pa.Table]:
    """The pairs table in parts of at most `ROW_GROUP` rows."""
    first_id = 0
    for split, (targets, sources, kinds) in drawn.items():
        for start in range(0, len(targets), ROW_GROUP):
            part = slice(start, start + ROW_GROUP)
            yield _pair_table(frames, split, first_id, targets[part], sources[part], kinds[part], max_gap_s)
            first_id += len(targets[part])


def _pair_table(
    frames: FrameColumns,
    split: str,
    first_id: int,
    target: NDArray[np.int64],
    source: NDArray[np.int64],
    kinds: NDArray[np.int8],
    max_gap_s: float | None,
) -> pa.Table:
    num = len(target)
    across = kinds != KINDS.index("time")
    in_time = kinds != KINDS.index("view")
    then, now = frames.seen[source], frames.seen[target]
    displacement = Displacement.from_frames(then, now, in_time, across, max_gap_s)
    gap_s = np.where(in_time, then.timestamp_s - now.timestamp_s, 0.0)

    def text(name: str, rows: NDArray[np.int64]) -> pa.Array:
        column = frames.table[name].combine_chunks().dictionary_encode()
        return column.take(pa.array(rows)).cast(pa.string())

    def nullable(values: Array) -> pa.Array:
        return pa.array(values.astype(np.float32), mask=~across)

    columns = {
        "pair_id": pa.array(np.arange(first_id, first_id + num)),
        "kind": pa.DictionaryArray.from_arrays(pa.array(kinds), pa.array(KINDS)).cast(pa.string()),
        "scene": text("scene", target),
        "source_camera": text("camera", source),
        "source_frame": pa.array(frames.frame_index[source]),
        "target_camera": text("camera", target),
        "target_frame": pa.array(frames.frame_index[target]),
        "gap": pa.array(frames.frame_index[source] - frames.frame_index[target]),
        "gap_s": pa.array(gap_s),
        "normalized_gap": pa.array((0.0 - displacement.time).astype(np.float32)),  # d, not -0.0
        "relative_pose": fixed_lists(displacement.relative_pose.astype(np.float32), pa.float32(), across),
        "delta_azimuth": nullable(displacement.azimuth),
        "delta_elevation": nullable(displacement.elevation),
        "delta_radius": nullable(displacement.radius),
        "caption": text("caption", target),
        "split": pa.repeat(pa.scalar(split), num),
        "weight": frames.table["confidence"].take(pa.array(target)),
    }
    return pa.table([columns[name] for name in frames.schema.names], schema=frames.schema)


def _count_distinct(values: NDArray[np.int64]) -> int:
    """The number of distinct values; sorts `values` in place, which is several times as fast as `np.unique`."""
    values.sort()
    return int(np.count_nonzero(values[1:] != values[:-1])) + min(len(values), 1)


def _write_reports(
    report_path: Path, gaps_path: Path, frames: FrameColumns, grids: list[SceneGrid], drawn: Mapping[str, tuple]
) -> None:
    """Counts per split and kind as JSON; the histogram of signed gaps per split and kind as CSV."""
    report: dict[str, Any] = {"scenes": len(grids), "scenes_without_poses": sum(not g.across.any() for g in grids)}
    with new_file(gaps_path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        histogram = csv.writer(file, lineterminator="\n")
        histogram.writerow(["split", "kind", "gap", "pairs"])
        for split, (target, source, kinds) in drawn.items():
            gaps = frames.frame_index[source] - frames.frame_index[target]
            distinct = _count_distinct(target * len(frames.frame_index) + source)
            report[split] = {"pairs": len(target), "distinct": distinct} | {
                kind: int((kinds == index).sum()) for index, kind in enumerate(KINDS)
            }
            if frames.is_taught.any():
                report[split] |= {TEACHER: int(frames.is_taught[target].sum())}
            for index, kind in enumerate(KINDS):
                values, counts = np.unique(gaps[kinds == index], return_counts=True)
                histogram.writerows([split, kind, gap, n] for gap, n in zip(values, counts, strict=True))
    with new_file(report_path) as partial:
        partial.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
