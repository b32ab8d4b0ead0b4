"""Pairs to tars that stock WebDataset reads, and the index of them."""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from tqdm import tqdm
from webdataset.writer import TarWriter

from fourdistill import __version__
from fourdistill.data.features import IMAGE_EMBEDS, LATENTS, FeatureReader
from fourdistill.data.files import new_file, new_folder
from fourdistill.data.tables import PAIRS, SPLITS, read_table
from fourdistill.errors import InputError

INDEX = "index.json"
MEGABYTE = 1_000_000
_READ_ROWS = 4096


def write_shards(
    pairs_table: Path,
    frames_dir: Path,
    features_dir: Path | None,
    out_dir: Path,
    *,
    shard_size_mb: float,
    max_pairs: int | None = None,
) -> None:
    """Write `out_dir/{train,val,test}-000000.tar ...` and `index.json`; without `features_dir`, no features in them.

    Of a split with more than `max_pairs`, so many are taken at even distances.
    A tar is closed once it reaches `shard_size_mb`. The bytes depend on the content alone: samples in order of
    `pair_id`, members sorted, no times, owners or modes of the machine. The folder is replaced whole.
    """
    table = read_table(pairs_table, PAIRS, ["split"])
    splits = np.array(table["split"].to_pylist(), dtype=str)
    rows = {split: _spread(np.flatnonzero(splits == split), max_pairs) for split in SPLITS}
    features = None if features_dir is None else FeatureReader(features_dir)
    tars = []
    with new_folder(out_dir, suffixes={".tar", ".json"}) as partial:
        with tqdm(total=sum(map(len, rows.values())), desc="write_shards", unit="pair") as bar:
            for split in SPLITS:
                samples = _samples(pairs_table, rows[split], frames_dir, features, bar)
                tars += _write_split(partial, split, samples, len(rows[split]), shard_size_mb * MEGABYTE)
        _write_index(partial / INDEX, tars, features is not None)


def _spread(rows: np.ndarray, max_pairs: int | None) -> np.ndarray:
    """At most `max_pairs` of the rows, at even distances."""
    if max_pairs is None or len(rows) <= max_pairs:
        return rows
    return rows[np.arange(max_pairs) * len(rows) // max_pairs]


def _samples(
    pairs_table: Path, rows: np.ndarray, frames_dir: Path, features: FeatureReader | None, bar: "tqdm[Any]"
) -> Iterator[dict[str, Any]]:
    """The samples in some rows of the table, ascending, as WebDataset names their members."""
    first = 0
    for batch in pq.ParquetFile(pairs_table).iter_batches(_READ_ROWS):
        here = rows[(rows >= first) & (rows < first + batch.num_rows)] - first
        for pair in batch.take(here).to_pylist():
            yield _sample(pair, frames_dir, features)
            bar.update()
        first += batch.num_rows


def _sample(pair: dict[str, Any], frames_dir: Path, features: FeatureReader | None) -> dict[str, Any]:
    scene = pair["scene"]
    source, target = ((pair[f"{end}_camera"], pair[f"{end}_frame"]) for end in ("source", "target"))
    sample: dict[str, Any] = {
        "__key__": f"{pair['pair_id']:09d}",
        "json": json.dumps(pair, ensure_ascii=False, separators=(",", ":")).encode(),
        "source.jpg": _read_frame(frames_dir / scene / source[0] / f"{source[1]:06d}.jpg"),
        "target.jpg": _read_frame(frames_dir / scene / target[0] / f"{target[1]:06d}.jpg"),
    }
    if features is not None:
        sample["source_embeds.npy"] = _to_npy(features.read(scene, *source, IMAGE_EMBEDS))
        sample["target_latents.npy"] = _to_npy(features.read(scene, *target, LATENTS))
    return sample


def _read_frame(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: expected a frame of extract_frames: {error.strerror}") from error


def _to_npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _write_split(
    folder: Path, split: str, samples: Iterator[dict[str, Any]], total: int, max_bytes: float
) -> list[dict[str, Any]]:
    """Write the tars of one split; returns a line of the index for each."""
    tars = []
    written = 0
    while written < total:
        path = folder / f"{split}-{len(tars):06d}.tar"
        num = 0
        with (
            path.open("wb") as file,
            TarWriter(file, encoder=False, mtime=0, user="", group="", mode=0o644) as tar,
        ):
            while written < total and file.tell() < max_bytes:
                tar.write(next(samples))
                num, written = num + 1, written + 1
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        tars.append({"name": path.name, "split": split, "samples": num, "bytes": path.stat().st_size, "sha256": digest})
    return tars


def _write_index(path: Path, tars: list[dict[str, Any]], has_features: bool) -> None:
    index = {"version": __version__, "features": has_features, "shards": tars}
    with new_file(path) as partial:
        partial.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
