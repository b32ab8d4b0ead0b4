"""Pairs as indices into their frames: without images, all pairs fit into memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from fourdistill.features.files import FeatureReader
from fourdistill.features.images import IMAGE_EMBEDS
from fourdistill.geometry.displacement import Displacement
from fourdistill.geometry.poses import Array
from fourdistill.tables import PAIRS, WEIGHTED_PAIRS, has_column, read_table, to_matrices

Key = tuple[str, str, int]
"""Scene, camera, frame index."""

_COLUMNS = [
    "kind", "scene", "source_camera", "source_frame", "target_camera", "target_frame", "normalized_gap",
    "relative_pose", "delta_azimuth", "delta_elevation", "delta_radius", "split",
]  # fmt: skip


@dataclass(frozen=True)
class FramePairs:
    """N pairs of F frames."""

    keys: Sequence[Key]
    """The frames."""
    source: NDArray[np.int64]
    """Indices into `keys` (N,); `target` likewise."""
    target: NDArray[np.int64]
    displacement: Displacement[Array]
    """(N,)."""
    weight: NDArray[np.float32]
    """In the loss (N,): the confidence of the targets, 1 for real frames."""


def read_frame_pairs(pairs_table: Path, split: str) -> FramePairs:
    """All pairs of a split, possibly none; raises `InputError` if the table is missing or not a pairs table."""
    weighted = has_column(pairs_table, "weight")
    table = read_table(pairs_table, WEIGHTED_PAIRS if weighted else PAIRS, _COLUMNS + ["weight"] * weighted)
    table = table.filter(pa.array(np.array(table["split"].to_pylist(), dtype=str) == split))
    ends = [[table["scene"], table[f"{end}_camera"], table[f"{end}_frame"]] for end in ("source", "target")]
    columns = [pa.chunked_array([*a.chunks, *b.chunks], a.type) for a, b in zip(*ends, strict=True)]
    codes = [column.combine_chunks().dictionary_encode() for column in columns]  # 2N names each
    flat = np.zeros(2 * len(table), np.int64)
    for code in codes:
        flat = flat * max(len(code.dictionary), 1) + code.indices.to_numpy()
    _, first, index = np.unique(flat, return_index=True, return_inverse=True)
    scene, camera, frame = (column.take(pa.array(first)).to_pylist() for column in columns)
    return FramePairs(
        keys=list(zip(scene, camera, frame, strict=True)),
        source=index[: len(table)],
        target=index[len(table) :],
        displacement=read_pair_displacements(table),
        weight=table["weight"].to_numpy() if weighted else np.ones(len(table), np.float32),
    )


def read_pair_displacements(table: pa.Table) -> Displacement[Array]:
    """The displacements (N,) of rows of the pairs table."""
    angles = [table[f"delta_{name}"].to_numpy(zero_copy_only=False) for name in ("azimuth", "elevation", "radius")]
    pose = to_matrices(table["relative_pose"], (12,))
    return Displacement.from_pairs(
        table["kind"].to_pylist(), table["normalized_gap"].to_numpy(), pose, np.stack(angles, axis=1)
    )


def read_frame_embeds(features: Path | str, keys: Sequence[Key]) -> torch.Tensor:
    """The image embeddings (F, S, D) of the given frames; raises `InputError` if they are missing."""
    reader = FeatureReader(features)
    rows = reader.store.each(lambda key: reader.read(*key, IMAGE_EMBEDS), keys)
    stored = np.stack(list(tqdm(rows, desc="read embeddings", unit="frame", total=len(keys), disable=None)))
    return reader.to_embeds(stored)
