"""Shards to batches for training, from a local folder, `s3://`, `https://` or any other address that fsspec opens.

WebDataset groups the members of the tars, and only what a step needs is decoded. The order is a function of (seed,
epoch, reader); the readers are the workers of all processes, and each reads its own share of the shards.
"""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from fourdistill.errors import InputError
from fourdistill.shards.loader.decode import Batch
from fourdistill.shards.loader.opener import ReadOptions
from fourdistill.shards.loader.order import Reader
from fourdistill.shards.loader.packing import Packed, pack, unpack
from fourdistill.shards.loader.reading import Plan, ShardReader
from fourdistill.shards.loader.report import LoadReport, check_lost, in_whole_epochs, merge_reports
from fourdistill.shards.loader.shard_list import (
    Shards,
    Source,
    fingerprint_shards,
    list_shards,
    list_splits,
    to_sources,
)

__all__ = [
    "Batch", "Loader", "ReadOptions", "Shards", "Source",
    "check_lost", "fingerprint_shards", "in_whole_epochs", "list_splits", "make_loader", "merge_reports",
]  # fmt: skip


def make_loader(
    shards: Shards,
    split: str,
    batch_size: int,
    *,
    seed: int,
    shuffle: bool,
    epochs: int | None = None,
    num_workers: int = 0,
    images: bool = False,
    rank: int = 0,
    world_size: int = 1,
    start_batch: int = 0,
    options: ReadOptions | None = None,
) -> "Loader":
    """Batches of one split for `epochs` epochs (None: endless), starting at batch number `start_batch`.

    Iterating again gives the same batches. With exact epochs, every sample occurs once per epoch in one of the
    `world_size` processes; the last batch of each worker may be smaller. Unreadable shards and samples are skipped,
    logged and counted (`Loader.report`). If there are several sources, those with shards of this split are mixed.

    Raises `InputError` if there are no shards, fewer shards than workers of all processes, or shards without features;
    while iterating, if this process loses more than `options.max_bad_fraction` of all shards.
    """
    options = options or ReadOptions()
    if options.resampled and epochs is not None:
        raise InputError("resampled: expected no number of epochs: shards drawn with replacement have none")
    sources = to_sources(shards)
    if len(sources) > 1:
        sources = [source for source in sources if split in list_splits([source])] or sources
    found = [list_shards(source.address, split) for source in sources]
    num_readers = world_size * max(1, num_workers)
    for source, listed in zip(sources, found, strict=True):
        _check_source(source, listed, options, num_readers)
    plan = Plan(found, [s.weight for s in sources], batch_size, seed, shuffle, epochs, images, options)
    return Loader(plan, num_workers, rank, world_size, start_batch)


def _check_source(source: Source, shards: Sequence[Any], options: ReadOptions, num_readers: int) -> None:
    if not source.weight > 0:
        raise InputError(f"{source.address}: weight: expected more than 0, found {source.weight}")
    if len(shards) < num_readers and not options.resampled:
        raise InputError(
            f"{source.address}: expected at least {num_readers} shards of split {shards[0].split}, one for each worker "
            f"of each process, found {len(shards)}; lower num_workers or write_shards.shard_size_mb"
        )
    unsigned = [shard.url for shard in shards if shard.sha256 is None]
    if options.verify and unsigned:
        raise InputError(f"{unsigned[0]}: verify: expected an index.json beside it with its sha256, found none")


class Loader:
    """An iterable of batches, with counts of what was read: see `make_loader`."""

    def __init__(self, plan: Plan, num_workers: int, rank: int, world_size: int, start_batch: int):
        self._plan, self._num_workers, self._start_batch = plan, num_workers, start_batch
        all_shards = [shard for shards in plan.sources for shard in shards]
        self.report = LoadReport(all_shards, max(1, num_workers), plan.options.max_bad_fraction)
        # Exact epochs end at different times in different workers: each worker's turn is only known if endless.
        self._skip = start_batch if plan.epochs is None or num_workers == 0 else 0
        self._dataset = _Batches(plan, self.report, rank, world_size, self._skip)

    def __iter__(self) -> Iterator[Batch]:
        return islice((Batch.of(values) for values in self._values()), self._start_batch - self._skip, None)

    def _values(self) -> Iterator[dict[str, Any]]:
        if not self._num_workers:
            yield from self._dataset.values(worker=0, num_workers=1)
            return
        loader = DataLoader(
            self._dataset,
            batch_size=None,
            num_workers=self._num_workers,
            collate_fn=_as_it_is,
            worker_init_fn=_leave_sigterm_to_training,
        )
        for packed in loader:
            if isinstance(packed, InputError):
                raise packed
            yield unpack(packed)


def _as_it_is(packed: Any) -> Any:
    return packed


def _leave_sigterm_to_training(worker: int) -> None:
    """React only to SIGTERM from the parent: a cluster sends it to all, but training reads on until it has saved."""
    if not hasattr(signal, "sigwaitinfo"):  # macOS and Windows do not report a signal's sender
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def heed() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            pass
        os._exit(0)

    threading.Thread(target=heed, daemon=True).start()


class _Batches(IterableDataset):
    """The dataset of a worker process: packed batches, or the error that ends them."""

    def __init__(self, plan: Plan, report: LoadReport, rank: int, world_size: int, skip: int):
        self._plan, self._report, self._rank, self._world_size, self._skip = plan, report, rank, world_size, skip

    def __iter__(self) -> Iterator[Packed | InputError]:
        info = torch.utils.data.get_worker_info()
        worker, num_workers = (0, 1) if info is None else (info.id, info.num_workers)
        try:
            for values in self.values(worker, num_workers):
                yield pack(values)
        except InputError as error:  # if raised in a worker, its message would contain a traceback
            yield error

    def values(self, worker: int, num_workers: int) -> Iterator[dict[str, Any]]:
        """Fields of one worker's batches.

        Workers give batches in turn. After skipped batches, the first worker takes the role of the worker whose turn it
        is.
        """
        turn = (self._skip + worker) % num_workers
        reader = Reader(turn * self._world_size + self._rank, self._world_size * num_workers)
        skip = (self._skip + worker) // num_workers
        return ShardReader(self._plan, reader, self._report, worker).batches(skip)
