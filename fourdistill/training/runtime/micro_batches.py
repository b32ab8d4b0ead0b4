"""Division of a batch into micro-batches, over the processes and within each process.

All micro-batches have the same size. Process p of P computes those numbered p, p + P, ...; all gradients are averaged.
Samples and random draws depend only on (seed, step, micro-batch), so the steps do not depend on the number of
processes.
"""

from dataclasses import dataclass

from fourdistill.errors import InputError


@dataclass(frozen=True)
class MicroBatches:
    """The micro-batches of each batch, and those of this process."""

    total: int
    mine: tuple[int, ...]
    size: int
    """Samples of one micro-batch."""

    @classmethod
    def divide(
        cls, batch_size: int, micro_batches: int | None, num_processes: int, process_index: int
    ) -> "MicroBatches":
        """`micro_batches`, by default one per process; raises `InputError` if the batch does not divide evenly."""
        total = num_processes if micro_batches is None else micro_batches
        if total % num_processes:
            raise InputError(f"train: micro_batches: expected a multiple of the {num_processes} processes, got {total}")
        if batch_size % total:
            raise InputError(f"train: batch_size: expected a multiple of its {total} micro-batches, got {batch_size}")
        return cls(total, tuple(range(process_index, total, num_processes)), batch_size // total)
