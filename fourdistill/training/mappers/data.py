"""Training data: one stream per micro-batch, validation batches, and counts of unreadable data."""

import math
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from accelerate.utils import gather_object

from fourdistill.errors import InputError
from fourdistill.models.codec import EmbeddingCodec
from fourdistill.shards.loader.batches import (
    Batch,
    Loader,
    Shards,
    check_lost,
    in_whole_epochs,
    list_splits,
    make_loader,
    merge_reports,
)
from fourdistill.training.mappers.batches import move
from fourdistill.training.mappers.settings import LoaderSettings
from fourdistill.training.runtime.micro_batches import MicroBatches

LOSSES = ("shards_broken", "samples_undecodable", "samples_missing")


class TrainingData:
    """Endless loaders of training batches, one for each micro-batch of this process.

    Args:
        first_step: the first step to give batches for.
        counts: what earlier runs of this training read and lost.
    """

    def __init__(
        self,
        shards: Shards,
        options: LoaderSettings,
        seed: int,
        micro_batches: MicroBatches,
        first_step: int,
        counts: dict[str, Any],
    ):
        self.counts = self._earlier = counts
        self.loaders: dict[int, Loader] = {
            micro_batch: make_loader(
                shards,
                "train",
                micro_batches.size,
                seed=seed,
                shuffle=True,
                num_workers=options.num_workers,
                rank=micro_batch,
                world_size=micro_batches.total,
                start_batch=first_step,
                options=options,
            )
            for micro_batch in micro_batches.mine
        }
        self._batches = {micro_batch: iter(loader) for micro_batch, loader in self.loaders.items()}

    def next(self, micro_batch: int) -> Batch:
        """The next batch of one of this process's micro-batches."""
        return next(self._batches[micro_batch])

    def count(self) -> dict[str, Any]:
        """Update `counts` from the loaders of all processes; return what this run has read and lost."""
        ours = merge_reports(gather_object([each.report.counts() for each in self.loaders.values()]))
        self.counts = merge_reports([self._earlier, ours])
        return ours

    def check(self) -> dict[str, int]:
        """What was skipped and how often, empty if nothing; all processes must call this together.

        Raises `InputError` if the processes together have lost too much, even if none has alone.
        """
        ours, report = self.count(), next(iter(self.loaders.values())).report
        total = in_whole_epochs(ours["shards_read"], len(report.shards))
        where = f"{report.shards[0].url} and others: "
        check_lost(ours["shards_lost"], total, report.max_bad_fraction, where)
        return {name: self.counts[name] for name in LOSSES if self.counts.get(name)}


class ValidationData:
    """Some validation batches, the same in every run with one seed; none if there is no such split."""

    def __init__(
        self,
        shards: Shards,
        options: LoaderSettings,
        seed: int,
        count: int,
        batch_size: int,
        device: torch.device,
        codec: EmbeddingCodec | None = None,
    ):
        self.batches: list[Batch] = []
        self.counts: dict[str, Any] = {}
        size = min(batch_size, count)
        if count and "val" in list_splits(shards):
            # Each pair once, and always the same pairs, independently of the training's draws.
            options = replace(options, resampled=False)
            loader = make_loader(shards, "val", size, seed=seed, shuffle=True, epochs=1, options=options)
            self.batches = [move(batch, device, codec) for batch in islice(loader, math.ceil(count / size))]
            self.counts = loader.report.counts()
        pairs = [batch.pair_id.tolist() for batch in self.batches]
        if any(theirs != pairs for theirs in gather_object([pairs])):  # some processes could not read some pairs
            raise InputError("train: val: expected the same validation pairs in all processes, found others in some")
