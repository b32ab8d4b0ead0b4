"""Derivation of all random draws from a training's seed."""

import torch


def step_generator(seed: int, step: int, micro_batch: int = 0, num_micro_batches: int = 1) -> torch.Generator:
    """The generator of all random draws of one micro-batch of one step.

    It does not depend on other steps, so a resumed run draws the same as an uninterrupted one. It does not depend on
    the process, so the draws are the same for any number of processes. It is on the CPU for the same reason.
    """
    return torch.Generator().manual_seed(seed * 1_000_003 + step * num_micro_batches + micro_batch)
