"""What a `Trainer` has to know of what it trains: loss, validation, state and fingerprint."""

from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from torch import nn


class Task:
    """A model and what is wanted of it. Only `fingerprint` and `loss` have to be written; the order is that of calls.

    Every process has a task. Where nothing else is said, all of them call its methods, at the same moments.

    Args:
        name: what the progress bar calls the training.
        model: its parameters that require gradients are trained; it is distributed, saved and resumed.
    """

    def __init__(self, name: str, model: nn.Module):
        self.name, self.model = name, model

    def fingerprint(self) -> dict[str, Any]:
        """JSON values that a checkpoint must agree with, beside the trainer's settings; taken before `place`."""
        raise NotImplementedError

    def place(self, accelerator: Accelerator) -> None:
        """Move what the loss needs beside the model to the device."""

    def start(self, step: int, kept: dict[str, Any]) -> None:
        """Go on after `step` steps, from the `state` that a checkpoint kept (empty where there is none)."""

    def loss(
        self, model: nn.Module, step: int, micro_batch: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss () of one micro-batch, and figures of it to be logged; all random draws are from `generator`.

        `model` is the task's own as accelerate has prepared it.
        """
        raise NotImplementedError

    def figures(self) -> dict[str, float]:
        """What else is logged with the training loss, each time."""
        return {}

    def validate(self) -> dict[str, float]:
        """Figures of the model as it is, in evaluation mode; empty where there is nothing to validate on."""
        return {}

    def describe(self, validation: dict[str, float]) -> str:
        """The figures of `validate` in one line, for a reader of the terminal."""
        return "  ".join(f"{name} {value:.4f}" for name, value in validation.items())

    def sample(self) -> Image.Image | None:
        """A picture of what the model does, in evaluation mode, to be logged as `samples.png`."""
        return None

    def state(self) -> dict[str, Any]:
        """JSON values to keep in a checkpoint beside the model's and the optimizer's state."""
        return {}

    def finish(self) -> None:
        """Last changes to the trained weights, before the last validation."""

    def save(self, validation: dict[str, float]) -> None:
        """Write the result; only the main process calls this."""

    def report(self, together: bool) -> dict[str, Any] | None:
        """What `train_report.json` says beside the trainer's own; None: it is not written.

        `together`: whether all processes call this now, or this one alone, where others may be gone.
        """
        return None
