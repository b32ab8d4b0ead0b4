"""The sub-models of a base as tasks of the package's trainer.

A batch is a pure function of (seed, step): the trainer passes `compute_loss` a generator seeded by both. So a resumed
run sees the same batches, crops and noise as an uninterrupted one.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from fourdistill.training.runtime.settings import Checkpointing, Logging, Optimizer
from fourdistill.training.runtime.task import Task
from fourdistill.training.runtime.trainer import Trainer, TrainerSettings

LossFn = Callable[[torch.nn.Module, int, torch.Generator], tuple[torch.Tensor, dict[str, float]]]


class SubModelTask(Task):
    """A model and the loss of one step; `belongs_to`: JSON values that identify its parameters and data."""

    def __init__(self, name: str, model: torch.nn.Module, compute_loss: LossFn, belongs_to: object):
        super().__init__(name, model)
        self.compute_loss, self.belongs_to = compute_loss, belongs_to

    def fingerprint(self) -> dict[str, Any]:
        """What a saved state must match."""
        return {"belongs_to": self.belongs_to}

    def place(self, accelerator: Accelerator) -> None:
        """Keep the accelerator; `compute_loss` already has its data on the right device."""
        self.accelerator = accelerator

    def loss(
        self, model: torch.nn.Module, step: int, micro_batch: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Run all of `compute_loss`, not only the model's forward, in the training's precision."""
        with self.accelerator.autocast():
            return self.compute_loss(model, step, generator)


def fit(
    model: torch.nn.Module,
    compute_loss: LossFn,
    work_dir: Path,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    warmup_steps: int = 200,
    weight_decay: float = 0.01,
    ema_decay: float | None = None,
    log_every: int = 50,
    save_every: int = 500,
    belongs_to: object = None,
) -> torch.nn.Module:
    """Train `model` for `steps` steps under bf16 autocast and return it, with EMA weights if `ema_decay` is set.

    `compute_loss(model, step, generator)` returns the loss and a dict of figures to log. State is saved to
    `work_dir/checkpoint` every `save_every` steps and after the last. The same call resumes from it if `belongs_to`
    (such as the parameters) and the settings here are the same. Logs go to `work_dir/dvclive`.
    """
    settings = TrainerSettings(
        seed=seed,
        max_steps=steps,
        batch_size=batch_size,
        optimizer=Optimizer(learning_rate, "cosine", warmup_steps, weight_decay, max_grad_norm=1.0),
        logging=Logging(log_every, validate_every=max(steps, 1), num_val_pairs=0),
        checkpoints=Checkpointing(save_every, keep=1, address=None),
        ema_decay=ema_decay,
        keep_last=True,
        mixed_precision="bf16",
    )
    trainer = Trainer(settings, live_folder=work_dir / "dvclive", checkpoint_folder=work_dir / "checkpoint")
    trainer.fit(SubModelTask(work_dir.name, model, compute_loss, belongs_to))
    return model
