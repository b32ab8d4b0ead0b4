"""One reader: shards of its sources in order, mixed by weight, decoded and batched; errors are counted."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice, repeat
from typing import Any

import numpy as np

from fourdistill.errors import InputError
from fourdistill.shards.loader.decode import DECODE_ERRORS, Decoder, Row, collate, suffixes
from fourdistill.shards.loader.opener import Blocks, Opener, ReadOptions
from fourdistill.shards.loader.order import Order, Reader
from fourdistill.shards.loader.report import LoadReport
from fourdistill.shards.loader.samples import READ_ERRORS, read_samples
from fourdistill.shards.loader.shard_list import Shard
from fourdistill.storage.addresses import describe

_DRAWS = 1024  # number of sources drawn at a time


@dataclass(frozen=True)
class Plan:
    """What to read, the same for all readers.

    Args:
        sources: the shards of each source.
        weights: of the sources in the mixture; they need not add up to one.
        epochs: None: without end.
    """

    sources: Sequence[Sequence[Shard]]
    weights: Sequence[float]
    batch_size: int
    seed: int
    shuffle: bool
    epochs: int | None
    images: bool
    options: ReadOptions

    def order(self, source: int) -> Order:
        """The order of a source's shards and samples."""
        buffer = self.options.shuffle_buffer if self.shuffle else None
        sizes = [shard.samples for shard in self.sources[source]]
        return Order(sizes, self.seed, buffer, self.options.resampled)

    def first_of(self, source: int) -> int:
        """The number of a source's first shard among all."""
        return sum(len(shards) for shards in self.sources[:source])


class ShardReader:
    """One reader of a plan. Its random choices follow from the plan's seed and its own number."""

    def __init__(self, plan: Plan, reader: Reader, report: LoadReport, worker: int):
        self._plan, self._reader, self._report, self._worker = plan, reader, report, worker
        self._suffixes = suffixes(plan.images)

    def batches(self, skip: int) -> Iterator[dict[str, Any]]:
        """Fields of batches, without the first `skip`; the last one may be smaller."""
        rows = self._rows(skip * self._plan.batch_size)
        while batch := list(islice(rows, self._plan.batch_size)):
            yield collate(batch)

    def _rows(self, skip: int) -> Iterator[Row]:
        """Decoded samples; undecodable ones are counted."""
        decoder = Decoder(self._plan.images)
        for sample in self._samples(skip):
            try:
                row = decoder.decode(sample)
            except DECODE_ERRORS as error:
                self._report.undecodable(self._worker, sample["__shard__"], sample["__key__"], describe(error))
                continue
            yield row

    def _samples(self, skip: int) -> Iterator[dict[str, Any]]:
        """Undecoded samples of all sources."""
        if len(self._plan.sources) == 1:
            yield from self._source(0, skip)
            return
        draws = self._draws()
        skips = Counter(islice(draws, skip))
        streams = {number: self._source(number, skips[number]) for number in range(len(self._plan.sources))}
        for number in draws:
            sample = next(streams[number], None) if number in streams else None
            if sample is not None:
                yield sample
                continue
            streams.pop(number, None)  # all of its epochs are done
            if not streams:
                return

    def _draws(self) -> Iterator[int]:
        """Numbers of sources, drawn in proportion to their weights."""
        share = np.asarray(self._plan.weights, float) / sum(self._plan.weights)
        rng = np.random.default_rng([self._plan.seed, self._reader.number])
        while True:
            yield from rng.choice(len(share), size=_DRAWS, p=share).tolist()

    def _source(self, number: int, skip: int) -> Iterator[dict[str, Any]]:
        """Undecoded samples of one source, epoch after epoch."""
        order = self._plan.order(number)
        start = order.start(skip, self._reader)
        left = start.skip
        epochs = count(start.epoch) if self._plan.epochs is None else range(start.epoch, self._plan.epochs)
        barren = 0  # consecutive shards without a sample: later ones may be good
        for epoch in epochs:
            passed = start.passed if epoch == start.epoch else frozenset()
            samples = order.shuffle(self._epoch(number, order, epoch, passed), epoch, self._reader)
            barren += len(order.shards(epoch, self._reader))
            for sample in samples:
                barren = 0
                if left:
                    left -= 1
                elif sample is not None:
                    yield sample
            if barren >= len(self._plan.sources[number]):
                first = self._plan.sources[number][0].url
                raise InputError(f"{first}: expected samples in it or in the shards beside it, found none")

    def _epoch(self, number: int, order: Order, epoch: int, passed: frozenset[int]) -> Iterator[dict[str, Any] | None]:
        """Undecoded samples of this reader's shards; None for each sample of those that have been passed."""
        shards, first = self._plan.sources[number], self._plan.first_of(number)
        here = order.shards(epoch, self._reader)
        unread = [shards[shard] for position, shard in enumerate(here) if position not in passed]
        opened = Opener(self._plan.options).open_all(unread)
        for position, shard in enumerate(here):
            if position in passed:
                yield from repeat(None, shards[shard].samples or 0)
            else:
                yield from self._shard(first + shard, next(opened))

    def _shard(self, shard: int, open_blocks: Callable[[], Blocks]) -> Iterator[dict[str, Any]]:
        """Undecoded samples of one shard, as many as can be read."""
        self._report.opened(self._worker, shard)
        expected, num = self._report.shards[shard].samples, 0
        try:
            for sample in read_samples(open_blocks, self._suffixes):
                num += 1
                yield sample | {"__shard__": shard}
            fault = None if expected is None or num >= expected else "it holds no more"
        except READ_ERRORS as error:
            fault = describe(error)
        finally:
            self._report.read(self._worker, shard, num)
        if fault is not None:
            self._report.broken(self._worker, shard, num, fault)
