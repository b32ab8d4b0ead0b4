"""The interface between a `Trainer` and what it trains: loss, validation, state and fingerprint."""

from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from torch import nn


class Task:
    """A model and its training task. Only `fingerprint` and `loss` are required; methods are in order of their calls.

    Every process has a task. Unless stated otherwise, all processes call each method at the same points.

    Args:
        name: the label of the progress bar.
        model: its parameters that require gradients are trained; it is distributed, saved and resumed.
        sample_every: steps between two calls of `sample`; None: only after the last step.
    """

    def __init__(self, name: str, model: nn.Module, sample_every: int | None = None):
        self.name, self.model, self.sample_every = name, model, sample_every

    def fingerprint(self) -> dict[str, Any]:
        """JSON values that a checkpoint must match, besides the trainer's settings; called before `place`."""
        raise NotImplementedError

    def place(self, accelerator: Accelerator) -> None:
        """Move to the device what the loss needs besides the model."""

    def start(self, step: int, kept: dict[str, Any]) -> None:
        """Start after `step` steps, with the `state` kept by a checkpoint (empty if there is none)."""

    def loss(
        self, model: nn.Module, step: int, micro_batch: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss () of one micro-batch, and metrics to log; all random draws are from `generator`.

        `model` is the task's model prepared by accelerate.
        """
        raise NotImplementedError

    def figures(self) -> dict[str, float]:
        """Further metrics to log with the training loss."""
        return {}

    def validate(self) -> dict[str, float]:
        """Metrics of the current model, in evaluation mode; empty if there is no validation data."""
        return {}

    def describe(self, validation: dict[str, float]) -> str:
        """The metrics of `validate` in one line, for the terminal."""
        return "  ".join(f"{name} {value:.4f}" for name, value in validation.items())

    def sample(self) -> Image.Image | None:
        """An image of the model's output, in evaluation mode, logged as `samples.png`."""
        return None

    def state(self) -> dict[str, Any]:
        """JSON values to keep in a checkpoint besides the model's and the optimizer's state."""
        return {}

    def finish(self) -> None:
        """Final changes to the trained weights, before the last validation."""

    def save(self, validation: dict[str, float]) -> None:
        """Write the result; only the main process calls this."""

    def report(self, together: bool) -> dict[str, Any] | None:
        """The task's entries in `train_report.json`; None: no report is written.

        `together`: whether all processes call this now, or only this one because others may have ended.
        """
        return None
