"""The sub-models of a base as tasks of the package's trainer.

A batch is a pure function of (seed, step): the trainer passes `draw` a generator seeded by both. So a resumed run sees
the same batches, crops and noise as an uninterrupted one, on any device: everything is drawn on the processor.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device

from fourdistill.training.runtime.settings import Checkpointing, Logging, Optimizer
from fourdistill.training.runtime.task import Task
from fourdistill.training.runtime.trainer import Trainer, TrainerSettings

Draw = Callable[[int, torch.Generator], tuple[torch.Tensor, ...]]
"""Step, its generator => the tensors of a batch, on the processor."""

ComputeLoss = Callable[..., tuple[torch.Tensor, dict[str, float]]]
"""Model, the tensors of a batch on the model's device => loss (), figures to log."""


class SubModelTask(Task):
    """A model, its batches and their loss; `belongs_to`: JSON values that identify its parameters and data."""

    def __init__(self, name: str, model: torch.nn.Module, draw: Draw, compute_loss: ComputeLoss, belongs_to: object):
        super().__init__(name, model)
        self.draw, self.compute_loss, self.belongs_to = draw, compute_loss, belongs_to

    def fingerprint(self) -> dict[str, Any]:
        """What a saved state must match."""
        return {"belongs_to": self.belongs_to}

    def place(self, accelerator: Accelerator) -> None:
        """Keep the accelerator: every batch goes to its device."""
        self.accelerator = accelerator

    def loss(
        self, model: torch.nn.Module, step: int, micro_batch: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Run all of `compute_loss`, not only the model's forward, in the training's precision."""
        batch = send_to_device(self.draw(step, generator), self.accelerator.device)
        with self.accelerator.autocast():
            return self.compute_loss(model, *batch)


def fit(
    model: torch.nn.Module,
    draw: Draw,
    compute_loss: ComputeLoss,
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
    """Train `model` for `steps` steps and return it on the processor, with EMA weights if `ema_decay` is set.

    It is trained on the first GPU or, without one, on the processor, in the precision `auto`. State is saved to
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
        mixed_precision="auto",
    )
    trainer = Trainer(settings, live_folder=work_dir / "dvclive", checkpoint_folder=work_dir / "checkpoint")
    trainer.fit(SubModelTask(work_dir.name, model, draw, compute_loss, belongs_to))
    return model.cpu()
