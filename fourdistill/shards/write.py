"""Pairs to tars that stock WebDataset can read, and their index."""

import io
import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow.parquet as pq
from webdataset.writer import TarWriter

from fourdistill.features.codes import copy_codec
from fourdistill.features.files import FeatureReader
from fourdistill.features.images import FRAME, IMAGE_EMBEDS, LATENTS
from fourdistill.frames.all_frames import FrameStores, TeacherFrames, open_frames
from fourdistill.shards.settings import WriteShards
from fourdistill.storage.fanout import fan_out
from fourdistill.storage.store import Store, checksum, new_set, open_set
from fourdistill.tables import FORMAT_VERSION, PAIRS, SPLITS, read_table

MEGABYTE = 1_000_000
_READ_ROWS = 4096
_MEASURED = 64  # number of samples from which the size of all is estimated


def write_shards(
    pairs_table: Path,
    frames_dir: Path | str,
    features_dir: Path | str,
    out: Path | str,
    settings: WriteShards,
    *,
    teacher: TeacherFrames | None = None,
    index_copy: Path | None = None,
) -> None:
    """Write `out/{train,val,test}-000000.tar ...` and `index.json`.

    Pairs may have frames of a `teacher`. If the embeddings of the features are codes, so are those of the samples, and
    the codec is copied. Frames, features and `out` may each be a folder or an fsspec address; the
    index of a remote `out` is also written to `index_copy`. At most `settings.max_pairs` pairs per split are taken,
    evenly spaced. All tars of a split hold the same number of samples, chosen for `shard_size_mb` from the size of the
    first samples. The bytes depend only on the content: samples are ordered by `pair_id`, members are sorted, and no
    times, owners or modes of the machine are stored. Existing output is replaced completely.
    """
    table = read_table(pairs_table, PAIRS, ["split"])
    splits = np.array(table["split"].to_pylist(), dtype=str)
    rows = {split: _choose_rows(np.flatnonzero(splits == split), settings.max_pairs) for split in SPLITS}
    features = str(features_dir) if settings.features else None
    packer = Packer(open_frames(frames_dir, teacher), features)
    tars = []
    with new_set(out, {".tar", ".json", ".safetensors"}, depth=0, index_copy=index_copy) as store:
        for split in SPLITS:
            if not len(rows[split]):
                continue
            size = packer.samples_per_tar(_pairs(pairs_table, rows[split]), settings.shard_size_mb * MEGABYTE)
            tars += fan_out(
                partial(_write_tar, packer, store),
                _tar_tasks(_pairs(pairs_table, rows[split]), split, size),
                engine=settings.engine,
                jobs=settings.jobs,
                description=f"write_shards {split}",
                total=math.ceil(len(rows[split]) / size),
            )
        index = {"version": FORMAT_VERSION, "features": features is not None, "shards": tars}
        codec = None if features is None else copy_codec(open_set(features, "encode_frames"), store)
        store.write_index(index if codec is None else {**index, "codec": codec})


def _choose_rows(rows: np.ndarray, max_pairs: int | None) -> np.ndarray:
    """At most `max_pairs` of the rows, evenly spaced."""
    if max_pairs is None or len(rows) <= max_pairs:
        return rows
    return rows[np.arange(max_pairs) * len(rows) // max_pairs]


def _pairs(pairs_table: Path, rows: np.ndarray) -> Iterator[dict[str, Any]]:
    """The pairs in some rows of the table, ascending."""
    first = 0
    for batch in pq.ParquetFile(pairs_table).iter_batches(_READ_ROWS):
        here = rows[(rows >= first) & (rows < first + batch.num_rows)] - first
        yield from batch.take(here).to_pylist()
        first += batch.num_rows


def _tar_tasks(pairs: Iterator[dict[str, Any]], split: str, size: int) -> Iterator[tuple[str, str, list[dict]]]:
    """(name, split, its pairs) of each tar."""
    for number in itertools.count():
        chunk = list(itertools.islice(pairs, size))
        if not chunk:
            return
        yield f"{split}-{number:06d}.tar", split, chunk


def _write_tar(packer: "Packer", store: Store, task: tuple[str, str, list[dict]]) -> dict[str, Any]:
    """Write one tar; return its entry in the index."""
    name, split, pairs = task
    with store.file(name) as path:
        with path.open("wb") as file:
            packer.write(file, pairs)
        written = checksum(path)
    return {"name": name, "split": split, "samples": len(pairs), **written}


@dataclass(frozen=True)
class Packer:
    """Pairs => tars of their frames and features, with members named as in WebDataset."""

    frames: FrameStores
    features_dir: str | None

    def write(self, file: BinaryIO, pairs: list[dict[str, Any]]) -> None:
        """Write a tar of these pairs."""
        features = None if self.features_dir is None else FeatureReader(self.features_dir)
        real = self.frames.real
        slower = real if features is None or real.is_remote else features.store
        with TarWriter(file, encoder=False, mtime=0, user="", group="", mode=0o644) as tar:
            for sample in slower.each(partial(_sample, self.frames, features), pairs):
                tar.write(sample)

    def samples_per_tar(self, pairs: Iterator[dict[str, Any]], max_bytes: float) -> int:
        """The number of samples in a tar of that size, estimated from the first ones."""
        first = list(itertools.islice(pairs, _MEASURED))
        tar = io.BytesIO()
        self.write(tar, first)
        return max(1, round(max_bytes / (len(tar.getvalue()) / len(first))))


def _sample(frames: FrameStores, features: FeatureReader | None, pair: dict[str, Any]) -> dict[str, Any]:
    scene = pair["scene"]
    source, target = ((pair[f"{end}_camera"], pair[f"{end}_frame"]) for end in ("source", "target"))
    sample: dict[str, Any] = {
        "__key__": f"{pair['pair_id']:09d}",
        "json": json.dumps(pair, ensure_ascii=False, separators=(",", ":")).encode(),
        "source.jpg": _read(frames, scene, *source),
        "target.jpg": _read(frames, scene, *target),
    }
    if features is not None:
        sample["source_embeds.npy"] = _to_npy(features.read(scene, *source, IMAGE_EMBEDS))
        sample["target_latents.npy"] = _to_npy(features.read(scene, *target, LATENTS))
    return sample


def _read(frames: FrameStores, scene: str, camera: str, number: int) -> bytes:
    return frames.of(scene, camera).read(f"{scene}/{camera}/{number:06d}.jpg", FRAME)


def _to_npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
