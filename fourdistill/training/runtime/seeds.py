"""The one rule by which random draws follow from a training's seed."""

import torch


def step_generator(seed: int, step: int, micro_batch: int = 0, num_micro_batches: int = 1) -> torch.Generator:
    """The generator of all random draws of one micro-batch of one step.

    It depends on no other step, so a resumed run draws what an unbroken one would have drawn, and on no process, so
    that the draws are the same however many processes share the micro-batches. On the CPU, for the same reason.
    """
    return torch.Generator().manual_seed(seed * 1_000_003 + step * num_micro_batches + micro_batch)
