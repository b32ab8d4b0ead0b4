"""Shards to batches for training: WebDataset reads the tars, and only what a step needs is decoded.

The order is a function of (seed, epoch): shards are permuted, then samples go through a shuffle buffer.
"""

import io
import itertools
import json
import random
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset
from webdataset.filters import shuffle as shuffle_samples
from webdataset.pipeline import DataPipeline
from webdataset.shardlists import SimpleShardList
from webdataset.tariterators import tarfile_to_samples

from fourdistill.data.shards import INDEX
from fourdistill.data.tables import SPLITS
from fourdistill.errors import InputError

_FEATURES = ("target_latents.npy", "source_embeds.npy")
_IMAGES = ("source.jpg", "target.jpg")


@dataclass(frozen=True)
class Batch:
    """B pairs, on the CPU. An absent displacement is zero, and its mask False."""

    target_latents: torch.Tensor
    """(B, C, h, w) float32, scaled latents of frame i, which is reconstructed."""
    source_embeds: torch.Tensor
    """(B, T, D) float32, image embeddings of frame j, the condition."""
    delta_time: torch.Tensor
    """(B,) float32 in [-1, 1]: `normalized_gap`, positive leads back in time."""
    relative_pose: torch.Tensor
    """(B, 12) float32: rows of the 3x4 source_from_target, translation over the scene's scale."""
    delta_spherical: torch.Tensor
    """(B, 3) float32: azimuth rad, elevation rad, radius over the scene's scale, target - source."""
    has_time: torch.Tensor
    """(B,) bool: kinds time and joint."""
    has_view: torch.Tensor
    """(B,) bool: kinds view and joint."""
    caption: list[str]
    """Empty where there is none."""
    pair_id: torch.Tensor
    """(B,) int64."""
    source_images: torch.Tensor | None = None
    """(B, 3, H, W) uint8, only when asked for."""
    target_images: torch.Tensor | None = None
    """(B, 3, H, W) uint8, only when asked for."""


def make_loader(
    shards: str | Path,
    split: str,
    batch_size: int,
    *,
    seed: int,
    shuffle: bool,
    epochs: int | None = None,
    num_workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    start_batch: int = 0,
    images: bool = False,
    shuffle_buffer: int = 2000,
) -> Iterable[Batch]:
    """Batches of one split, `epochs` times over (None: without end); only the very last may be smaller.

    Iterating again gives the same batches again, from `start_batch` on. Each of `world_size` readers and each of its
    workers reads its own share of the tars. Raises `InputError` where the shards are missing, fewer than the readers,
    have no such split, or were written without features.
    """
    urls = _list_tars(Path(shards), split)
    readers = world_size * max(num_workers, 1)
    if world_size > 1 and len(urls) < readers:
        raise InputError(f"{shards}: expected at least {readers} tars of split {split}, found {len(urls)}")
    skip = start_batch if num_workers == 0 else 0  # undecoded
    dataset = _Batches(urls, batch_size, seed, shuffle, epochs, images, shuffle_buffer, rank, world_size, skip)
    if num_workers == 0:
        return dataset
    return _From(DataLoader(dataset, batch_size=None, num_workers=num_workers), start_batch)


def list_splits(shards: str | Path) -> set[str]:
    """The splits that have samples, by the index. Raises `InputError` where it is missing or no index."""
    return {entry["split"] for entry in _read_index(Path(shards))["shards"]}


def _read_index(shards: Path) -> dict[str, Any]:
    """`index.json` with the keys that reading needs."""
    path = shards / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        return {
            "features": index["features"],
            "shards": [{key: entry[key] for key in ("name", "split", "bytes")} for entry in index["shards"]],
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected the index that write_shards writes: {error}") from error


def _list_tars(shards: Path, split: str) -> list[str]:
    """Paths of a split's tars, by the index; its names are checked, never followed elsewhere."""
    if split not in SPLITS:
        raise InputError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    index, index_path = _read_index(shards), shards / INDEX
    sizes = {entry["name"]: entry["bytes"] for entry in index["shards"] if entry["split"] == split}
    if not index["features"]:
        raise InputError(f"{index_path}: features: expected shards with features; set write_shards.features: true")
    if not sizes:
        raise InputError(f"{index_path}: expected shards of split {split}, found none; see build_pairs.num_pairs")
    for name, size in sizes.items():
        if not isinstance(name, str) or not re.fullmatch(rf"{split}-\d{{6}}\.tar", name):
            raise InputError(f"{index_path}: expected names such as {split}-000000.tar, found {name!r}")
        if not (shards / name).is_file():
            raise InputError(f"{shards / name}: expected this tar by {INDEX}, found none")
        if (found := (shards / name).stat().st_size) != size:
            raise InputError(f"{shards / name}: expected {size} bytes by {INDEX}, found {found}")
    return [str(shards / name) for name in sizes]


@dataclass(frozen=True)
class _From:
    loader: Iterable[Batch]
    start_batch: int

    def __iter__(self) -> Iterator[Batch]:
        return itertools.islice(iter(self.loader), self.start_batch, None)


class _Batches(IterableDataset[Batch]):
    def __init__(
        self,
        urls: list[str],
        batch_size: int,
        seed: int,
        shuffle: bool,
        epochs: int | None,
        images: bool,
        shuffle_buffer: int,
        rank: int,
        world_size: int,
        skip: int,
    ) -> None:
        self._rank, self._world_size, self._skip = rank, world_size, skip
        self._urls, self._batch_size, self._seed, self._shuffle = urls, batch_size, seed, shuffle
        self._epochs, self._images, self._buffer = epochs, images, shuffle_buffer

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        worker_id, num_workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        share = (self._rank * num_workers + worker_id, self._world_size * num_workers)
        if share[0] >= len(self._urls):
            return  # more workers than tars
        epochs = itertools.count() if self._epochs is None else range(self._epochs)
        samples = itertools.chain.from_iterable(self._epoch(epoch, *share) for epoch in epochs)
        samples = itertools.islice(samples, self._skip * self._batch_size, None)
        decoded = (_decode(sample, self._images) for sample in samples)
        while rows := list(itertools.islice(decoded, self._batch_size)):
            yield _collate(rows)

    def _epoch(self, epoch: int, worker: int, num_workers: int) -> Iterator[dict[str, Any]]:
        """Undecoded samples of all tars (of this worker's share of them), once."""
        urls = self._urls
        if self._shuffle:
            order = np.random.default_rng([self._seed, epoch]).permutation(len(urls))
            urls = [urls[index] for index in order]
        urls = urls[worker::num_workers]
        suffixes = (".json", *_FEATURES, *(_IMAGES if self._images else ()))
        stages = [SimpleShardList(urls), tarfile_to_samples(select_files=lambda name: name.endswith(suffixes))]
        if self._shuffle:
            rng = random.Random(f"{self._seed} {epoch} {worker}")
            stages.append(shuffle_samples(self._buffer, initial=self._buffer, rng=rng))
        found = False
        try:
            for sample in DataPipeline(*stages):
                found = True
                yield sample
        except (tarfile.TarError, OSError, EOFError) as error:
            raise InputError(f"{Path(urls[0]).parent}: expected tars of write_shards: {error}") from error
        if not found:
            raise InputError(f"{urls[0]}: expected samples, found none")


def _decode(sample: dict[str, Any], images: bool) -> dict[str, Any]:
    """The pair row, with its features as arrays."""
    try:
        row = json.loads(sample["json"])
        for name in _FEATURES:
            row[name] = np.load(io.BytesIO(sample[name]), allow_pickle=False)
        if images:
            for name in _IMAGES:
                row[name] = np.asarray(Image.open(io.BytesIO(sample[name])).convert("RGB"))
    except (KeyError, ValueError, OSError, EOFError) as error:
        raise InputError(
            f"{sample['__url__']}: sample {sample['__key__']}: not as write_shards writes it: {error}"
        ) from error
    return row


def _collate(rows: list[dict[str, Any]]) -> Batch:
    def features(name: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([row[name] for row in rows])).float()

    def pictures(name: str) -> torch.Tensor | None:
        return torch.from_numpy(np.stack([row[name] for row in rows])).permute(0, 3, 1, 2) if name in rows[0] else None

    kinds = [row["kind"] for row in rows]
    spherical = [
        [row["delta_azimuth"] or 0.0, row["delta_elevation"] or 0.0, row["delta_radius"] or 0.0] for row in rows
    ]
    return Batch(
        target_latents=features("target_latents.npy"),  # (B, C, h, w)
        source_embeds=features("source_embeds.npy"),  # (B, T, D)
        delta_time=torch.tensor([row["normalized_gap"] for row in rows], dtype=torch.float32),  # (B,)
        relative_pose=torch.tensor(
            [row["relative_pose"] or [0.0] * 12 for row in rows], dtype=torch.float32
        ),  # (B, 12)
        delta_spherical=torch.tensor(spherical, dtype=torch.float32),  # (B, 3)
        has_time=torch.tensor([kind != "view" for kind in kinds]),
        has_view=torch.tensor([kind != "time" for kind in kinds]),
        caption=[row["caption"] or "" for row in rows],
        pair_id=torch.tensor([row["pair_id"] for row in rows]),
        source_images=pictures("source.jpg"),
        target_images=pictures("target.jpg"),
    )
