"""How a batch is divided into micro-batches, over the processes and within each of them.

All micro-batches have one size, and each has a loader of its own. Process p of P computes those numbered p, p + P, ...;
the gradients of all are averaged. Pairs and random draws belong to (seed, step, micro-batch), so the steps are the same
however many processes share the work.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fourdistill.errors import InputError
from fourdistill.shards.loader.batches import Batch, Loader, ReadOptions, Shards, make_loader


@dataclass(frozen=True)
class MicroBatches:
    """The micro-batches of every batch, and those of this process."""

    total: int
    mine: tuple[int, ...]
    size: int
    """Samples of one micro-batch."""

    @classmethod
    def divide(
        cls, batch_size: int, micro_batches: int | None, num_processes: int, process_index: int
    ) -> "MicroBatches":
        """`micro_batches`, by default one per process; raises `InputError` where the batch does not divide evenly."""
        total = num_processes if micro_batches is None else micro_batches
        if total % num_processes:
            raise InputError(f"train: micro_batches: expected a multiple of the {num_processes} processes, got {total}")
        if batch_size % total:
            raise InputError(f"train: batch_size: expected a multiple of its {total} micro-batches, got {batch_size}")
        return cls(total, tuple(range(process_index, total, num_processes)), batch_size // total)

    def loaders(
        self, shards: Shards, options: ReadOptions | None, first_step: int, *, seed: int, num_workers: int
    ) -> list[Loader]:
        """An endless loader of training batches for each micro-batch of this process, from `first_step` on."""
        return [
            make_loader(
                shards,
                "train",
                self.size,
                seed=seed,
                shuffle=True,
                num_workers=num_workers,
                rank=micro_batch,
                world_size=self.total,
                start_batch=first_step,
                options=options,
            )
            for micro_batch in self.mine
        ]

    def draw_seed(self, seed: int, step: int, micro_batch: int) -> int:
        """The seed of all random draws of one micro-batch of one step."""
        return seed * 1_000_003 + step * self.total + micro_batch

    def read(self, loaders: Iterable[Iterable[Batch]], steps: range) -> Iterator[tuple[int, int, Batch]]:
        """(step, micro-batch, its samples): those of this process, step after step."""
        batches = [iter(loader) for loader in loaders]
        for step in steps:
            for micro_batch, each in zip(self.mine, batches, strict=True):
                yield step, micro_batch, next(each)
