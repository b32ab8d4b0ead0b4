"""The order of samples: a function of (seed, epoch, reader), so a resumed run can find its position.

The readers are the workers of all processes. Each reads every `num_readers`th shard of an epoch's permutation, and
shuffles what comes out in a buffer.
"""

import random
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Any, TypeVar

import numpy as np
from webdataset.filters import shuffle as shuffle_samples

T = TypeVar("T")


@dataclass(frozen=True)
class Reader:
    """One of the readers that share the shards."""

    number: int
    num_readers: int


@dataclass(frozen=True)
class Order:
    """The order of the shards and samples of one source.

    Args:
        sizes: number of samples of each shard, None if unknown.
        buffer: number of samples from which the next is drawn; None: no shuffling.
        resampled: draw the shards of an epoch with replacement.
    """

    sizes: Sequence[int | None]
    seed: int
    buffer: int | None
    resampled: bool

    def shards(self, epoch: int, reader: Reader) -> list[int]:
        """The shards that a reader reads in an epoch."""
        num = len(self.sizes)
        if self.resampled:
            rng = np.random.default_rng([self.seed, epoch, reader.number])
            return rng.integers(num, size=max(1, num // reader.num_readers)).tolist()
        order = np.arange(num) if self.buffer is None else np.random.default_rng([self.seed, epoch]).permutation(num)
        return order[reader.number :: reader.num_readers].tolist()

    def shuffle(self, samples: Iterable[T], epoch: int, reader: Reader) -> Iterator[T]:
        """The samples of an epoch, drawn from the buffer."""
        if self.buffer is None:
            return iter(samples)
        rng = random.Random(f"{self.seed} {epoch} {reader.number}")
        shuffled: Any = shuffle_samples(self.buffer, initial=self.buffer, rng=rng)
        return shuffled(iter(samples))

    def start(self, skip: int, reader: Reader) -> "Start":
        """A reader's position after `skip` samples, as far as it can be determined without reading."""
        epoch = 0
        while True:
            shards = self.shards(epoch, reader)
            sizes = [self.sizes[shard] for shard in shards]
            known = [size for size in sizes if size is not None]
            if len(known) < len(sizes) or not sum(known):
                return Start(epoch, skip, frozenset())
            if skip < sum(known):
                return Start(epoch, skip, self._passed(known, skip, epoch, reader))
            skip -= sum(known)
            epoch += 1

    def _passed(self, sizes: list[int], skip: int, epoch: int, reader: Reader) -> frozenset[int]:
        """Positions in the epoch of those shards whose samples are all among the first `skip`."""
        ends = list(accumulate(sizes))
        left = list(sizes)
        for sample in islice(self.shuffle(range(ends[-1]), epoch, reader), skip):
            left[bisect_right(ends, sample)] -= 1
        return frozenset(position for position, size in enumerate(left) if not size)


@dataclass(frozen=True)
class Start:
    """A position: an epoch, the number of its samples to skip, and the positions of shards that need no reading."""

    epoch: int
    skip: int
    passed: frozenset[int]
