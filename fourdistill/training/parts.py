"""How a batch is divided: over processes, and over the micro-batches that each of them computes one after another.

A batch is computed in parts of one size, each read by a loader of its own. Process p of P computes parts p, p + P, ...,
and the gradients of all parts are averaged. Pairs and draws belong to (seed, step, part), so the same parts make the
same steps, however many processes share them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fourdistill.data.loader import Batch, Loader, ReadOptions, Shards, make_loader
from fourdistill.errors import InputError
from fourdistill.training.settings import TrainingSettings


@dataclass(frozen=True)
class Parts:
    """The parts of every batch, and those of this process."""

    total: int
    mine: tuple[int, ...]
    size: int
    """Samples of one part."""

    @classmethod
    def divide(cls, batch_size: int, micro_batches: int | None, num_processes: int, process_index: int) -> "Parts":
        """`micro_batches` parts, by default one per process; raises `InputError` where they do not come out even."""
        total = num_processes if micro_batches is None else micro_batches
        if total % num_processes:
            raise InputError(f"train: micro_batches: expected a multiple of the {num_processes} processes, got {total}")
        if batch_size % total:
            raise InputError(f"train: batch_size: expected a multiple of its {total} parts, got {batch_size}")
        return cls(total, tuple(range(process_index, total, num_processes)), batch_size // total)

    def loaders(
        self, shards: Shards, settings: TrainingSettings, options: ReadOptions | None, first_step: int
    ) -> list[Loader]:
        """A loader of training batches without end for each part of this process, from `first_step` on."""
        return [
            make_loader(
                shards,
                "train",
                self.size,
                seed=settings.seed,
                shuffle=True,
                num_workers=settings.num_workers,
                rank=part,
                world_size=self.total,
                start_batch=first_step,
                options=options,
            )
            for part in self.mine
        ]

    def draw_seed(self, seed: int, step: int, part: int) -> int:
        """The seed of all random draws of one part of one step."""
        return seed * 1_000_003 + step * self.total + part

    def read(self, loaders: Iterable[Iterable[Batch]], steps: range) -> Iterator[tuple[int, int, Batch]]:
        """(step, part, its batch): the parts of this process, step after step."""
        batches = [iter(loader) for loader in loaders]
        for step in steps:
            for part, each in zip(self.mine, batches, strict=True):
                yield step, part, next(each)
