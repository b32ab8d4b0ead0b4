"""Counts of what was read and lost, in memory shared by the worker processes."""

import logging
from collections.abc import Iterable, Sequence
from math import ceil
from typing import Any

import torch

from fourdistill.errors import InputError
from fourdistill.shards.loader.shard_list import Shard

# Columns, per worker and shard: times opened; samples read; undecodable samples; samples missing from a broken shard,
# as far as the index tells; times it broke; and the lost fraction of the shard, summed over all times.
_OPENED, _READ, _UNDECODABLE, _MISSING, _BROKEN, _LOST_SHARE = range(6)
_MAX_LISTED = 100
_log = logging.getLogger(__name__)


class LoadReport:
    """The counts of one loader. Every worker writes to its own row, so no locks are needed.

    Args:
        shards: all shards of the loader, of all sources.
        num_workers: at least 1.
        max_bad_fraction: in [0, 1]; losing more than this fraction of all shards here, whole or in parts, raises
            `InputError`. Processes do not see each other's losses.
    """

    def __init__(self, shards: Sequence[Shard], num_workers: int, max_bad_fraction: float):
        self.shards, self.max_bad_fraction = list(shards), max_bad_fraction
        self._counts = torch.zeros(num_workers, len(self.shards), 6, dtype=torch.float64).share_memory_()

    def opened(self, worker: int, shard: int) -> None:
        """A shard is about to be read."""
        self._counts[worker, shard, _OPENED] += 1

    def read(self, worker: int, shard: int, samples: int) -> None:
        """Count samples read from a shard."""
        self._counts[worker, shard, _READ] += samples

    def broken(self, worker: int, shard: int, samples: int, reason: str) -> None:
        """A shard broke after this many samples."""
        entry, counts = self.shards[shard], self._counts[worker, shard]
        missing = None if entry.samples is None else entry.samples - samples
        counts[_BROKEN] += 1
        counts[_MISSING] += missing or 0
        counts[_LOST_SHARE] += 1.0 if entry.samples is None else (missing or 0) / max(entry.samples, 1)
        after = f"after {samples} samples" if entry.samples is None else f"after {samples} of {entry.samples} samples"
        self._stop_or_log(f"{entry.url}: skipped {after}: {reason}")

    def undecodable(self, worker: int, shard: int, key: str, reason: str) -> None:
        """Count a sample that is not as written by write_shards."""
        entry, counts = self.shards[shard], self._counts[worker, shard]
        size = entry.samples or float(counts[_READ] / counts[_OPENED].clamp(min=1)) or 1
        counts[_UNDECODABLE] += 1
        counts[_LOST_SHARE] += 1 / size
        self._stop_or_log(f"{entry.url}: sample {key}: skipped: not as write_shards writes it: {reason}")

    def _stop_or_log(self, message: str) -> None:
        counts = self._counts.sum(0)  # (shards, 6)
        lost, opened = counts[:, _LOST_SHARE], counts[:, _OPENED]
        # A worker may reach a bad shard again before the others have reached their last shard.
        often = int(torch.where(lost > 0, opened, 0).max())
        total = max(in_whole_epochs(float(opened.sum()), len(self.shards)), often * len(self.shards))
        check_lost(float(lost.sum()), total, self.max_bad_fraction, f"{message}; ")
        _log.warning("%s", message)

    def counts(self) -> dict[str, Any]:
        """All counts so far, for a JSON report; see `merge_reports`."""
        per_shard = self._counts.sum(0)
        totals = [round(value) for value in per_shard.sum(0).tolist()]
        lost = (per_shard[:, _BROKEN] + per_shard[:, _UNDECODABLE]).nonzero().flatten().tolist()
        skipped = {self.shards[i].url: round(float(per_shard[i, _UNDECODABLE] + per_shard[i, _MISSING])) for i in lost}
        return {
            "shards_read": totals[_OPENED],
            "shards_broken": totals[_BROKEN],
            "shards_lost": float(per_shard[:, _LOST_SHARE].sum()),
            "samples_read": totals[_READ],
            "samples_undecodable": totals[_UNDECODABLE],
            "samples_missing": totals[_MISSING],
            "samples_skipped_by_shard": dict(list(skipped.items())[:_MAX_LISTED]),
        }


def in_whole_epochs(opened: float, num_shards: int) -> int:
    """The number of shards in all epochs begun: a bad shard recurs in each epoch, early or late."""
    return num_shards * max(1, ceil(opened / num_shards))


def check_lost(lost: float, total: int, max_bad_fraction: float, where: str) -> None:
    """Raise `InputError`, beginning with `where`, if more than this fraction of `total` shards is lost."""
    if lost > max_bad_fraction * total:
        raise InputError(
            f"{where}{lost:.3g} of {total} shards are lost, more than max_bad_fraction {max_bad_fraction:g} allows"
        )


def merge_reports(reports: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The `counts()` of several loaders, or of several processes, as one."""
    merged: dict[str, Any] = {}
    for report in reports:
        for name, value in report.items():
            if isinstance(value, dict):
                merged[name] = merge_reports([merged.get(name, {}), value])
            else:
                merged[name] = merged.get(name, 0) + value
    return merged
