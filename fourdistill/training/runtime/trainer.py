"""The only training loop: accelerate on one or more devices, DVCLive, checkpoints with automatic resumption.

Start reading at `Trainer.fit`. It trains a `Task`, which provides the loss, validation, state and fingerprint. Every
random draw of a step is determined by (seed, step, micro-batch), see `seeds.py`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.optimization import get_scheduler
from torch import nn
from tqdm import tqdm

from fourdistill.training.runtime.average import WeightAverage
from fourdistill.training.runtime.checkpoint import Checkpoints
from fourdistill.training.runtime.micro_batches import MicroBatches
from fourdistill.training.runtime.preemption import Preempted, Preemption
from fourdistill.training.runtime.report import TrainReport
from fourdistill.training.runtime.seeds import step_generator
from fourdistill.training.runtime.settings import Checkpointing, Logging, Optimizer
from fourdistill.training.runtime.task import Task
from fourdistill.training.runtime.tracking import Means, end_accelerator, start_accelerator, start_logs


@dataclass(frozen=True)
class TrainerSettings:
    """The length of a training, its batches and random draws, and what all trainings share."""

    seed: int
    max_steps: int
    batch_size: int  # per step, over all processes
    optimizer: Optimizer
    logging: Logging
    checkpoints: Checkpointing
    micro_batches: int | None = None  # over all processes; None: one per process
    mixed_precision: str = "no"  # one of PRECISIONS in models/base/precision.py
    ema_decay: float | None = None  # if set, the result is a moving average of the weights
    keep_last: bool = False  # keep the state after the last step if the result is saved later

    @classmethod
    def of(cls, section: Any, seed: int, **others: Any) -> "TrainerSettings":
        """What a section of `params.yaml` says of its training; `others` are fields that have defaults here."""
        shared = (section.max_steps, section.batch_size, section.optimizer, section.logging, section.checkpoints)
        return cls(seed, *shared, **others)


class Trainer:
    """Trains a task on the devices of this process and of those launched with it.

    Args:
        live_folder: where metrics and `train_report.json` go (DVCLive).
        checkpoint_folder: where the state is kept; started again with the same settings and data, a killed run resumes
            from there, with the same batches and draws as an uninterrupted run.
    """

    def __init__(self, settings: TrainerSettings, *, live_folder: Path, checkpoint_folder: Path):
        self.settings, self.live_folder, self.checkpoint_folder = settings, live_folder, checkpoint_folder
        self.accelerator = start_accelerator(settings.mixed_precision)
        processes, process = self.accelerator.num_processes, self.accelerator.process_index
        self.micro_batches = MicroBatches.divide(settings.batch_size, settings.micro_batches, processes, process)
        self.accelerator.gradient_accumulation_steps = len(self.micro_batches.mine)
        self.report = TrainReport(processes, self.micro_batches.total, settings.batch_size)
        self.means = Means(self.accelerator)
        self.average: WeightAverage | None = None
        self.validation: dict[str, float] = {}
        self.logged = 0, 0.0  # steps, and the report's seconds, at the last log

    def fit(self, task: Task) -> dict[str, float]:
        """Train the task, save its result, and return the last validation.

        Raises `Preempted` after SIGTERM, once the state is saved.
        """
        accelerator, settings = self.accelerator, self.settings
        model, first = self.start(task)
        with Preemption() as preemption:  # to the end: a launcher may forward SIGTERM more than once
            with self.failures_reported():
                finished = self.take_steps(model, first, preemption)
                if finished:
                    if self.average is not None:
                        self.average.copy_to_model()
                    task.finish()
                    self.validate(settings.max_steps)
                    self.sample()
            if finished and accelerator.is_main_process:
                task.save(self.validation)
            self.write_report("finished" if finished else "preempted", together=True)
            del model  # drop the last reference to DDP's model
            end_accelerator(accelerator)
        if not finished:
            raise Preempted
        if accelerator.is_main_process and not settings.keep_last:
            self.checkpoints.clear()  # last: until everything is written, a killed run can resume
        return self.validation

    def start(self, task: Task) -> tuple[nn.Module, int]:
        """Move everything to its device and load the newest checkpoint, if any.

        Returns the task's model prepared by accelerate, and the number of steps already done.
        """
        accelerator, settings = self.accelerator, self.settings
        self.task, self.checkpoints = task, self.open_checkpoints(task)
        resumed = self.checkpoints.restore_live() if accelerator.is_main_process else False
        start_logs(accelerator, self.live_folder, resume=resumed)

        task.place(accelerator)
        # accelerate does not notice that a fused optimizer skips a step whose fp16 gradients overflow.
        fused = accelerator.mixed_precision != "fp16"
        optimizer = make_optimizer(task.model, settings.optimizer, fused=fused)
        lr_scheduler = get_scheduler(
            settings.optimizer.lr_scheduler,
            optimizer,
            num_warmup_steps=settings.optimizer.warmup_steps,
            num_training_steps=settings.max_steps,
        )
        model, self.optimizer, self.lr_scheduler = accelerator.prepare(task.model, optimizer, lr_scheduler)
        if settings.ema_decay is not None:
            self.average = WeightAverage(accelerator, trained_parameters(task.model), settings.ema_decay)

        step, kept = self.checkpoints.resume(accelerator)
        if kept:
            self.report.resume(kept["report"])
            self.means.resume(kept["means"])
        if self.average is not None:
            self.average.resume(step)
        self.report.steps, self.logged = step, (step, self.report.seconds)
        task.start(step, kept.get("task", {}))
        return model, step

    def take_steps(self, model: nn.Module, first: int, preemption: Preemption) -> bool:
        """Run the steps from `first` on; return False if SIGTERM came before the last one (the state is saved)."""
        accelerator, settings, task = self.accelerator, self.settings, self.task
        trained = trained_parameters(task.model)
        self.report.start_clock()
        if first == 0 and settings.max_steps:
            self.validate(0)
        task.model.train()
        for step in self.progress(range(first, settings.max_steps)):
            for micro_batch in self.micro_batches.mine:
                generator = step_generator(settings.seed, step, micro_batch, self.micro_batches.total)
                with accelerator.accumulate(model):
                    loss, figures = task.loss(model, step, micro_batch, generator)
                    accelerator.backward(loss)
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(trained, settings.optimizer.max_grad_norm)
                    self.optimizer.step()
                    self.lr_scheduler.step()
                    self.optimizer.zero_grad(set_to_none=True)
                self.means.add({"loss": loss.detach(), **figures})
            if self.average is not None:
                self.average.step()

            self.report.steps = done = step + 1
            is_last = done == settings.max_steps
            if is_last or is_due(done, settings.logging.every):
                self.log(done)
            if not is_last and is_due(done, settings.logging.validate_every):
                self.validate(done)
            if not is_last and is_due(done, task.sample_every):
                self.sample()
            preempted = not is_last and preemption.asked(accelerator)
            if preempted or (settings.keep_last if is_last else is_due(done, settings.checkpoints.every)):
                self.save(done)
            if preempted:
                return False
        self.report.stop_clock()
        return True

    def log(self, step: int) -> None:
        """Log the mean training loss over all processes, and the speed."""
        self.report.stop_clock()
        figures = self.task.figures()
        logged_step, logged_s = self.logged
        speed = (step - logged_step) * self.settings.batch_size / max(self.report.seconds - logged_s, 1e-9)
        lr = self.lr_scheduler.get_last_lr()[0]
        values = {**self.means.take(), "lr": lr, "samples_per_s": speed, **figures}
        self.accelerator.log({f"train.{name}": value for name, value in values.items()}, step=step)
        self.write_report("running", together=False)
        self.logged = step, self.report.seconds

    def validate(self, step: int) -> None:
        """Log the task's validation; every process computes all of it, which keeps them synchronized."""
        with self.evaluating():
            validation = self.task.validate()
            if not validation:
                return
            self.validation = validation
            self.accelerator.log(validation, step=step)
            if self.accelerator.is_main_process:
                tqdm.write(f"step {step}: {self.task.describe(validation)}")

    def sample(self) -> None:
        """Log an image of the model's output."""
        with self.evaluating():
            picture = self.task.sample()
            if picture is not None and self.accelerator.is_main_process:
                live: Any = self.accelerator.get_tracker("dvclive", unwrap=True)
                live.log_image("samples.png", picture)

    def save(self, step: int) -> None:
        """Write a checkpoint."""
        self.report.stop_clock()
        kept = {"task": self.task.state(), "report": self.report.state(), "means": self.means.state()}
        self.checkpoints.save(self.accelerator, step, kept)
        self.report.start_clock()

    def open_checkpoints(self, task: Task) -> Checkpoints:
        """The checkpoints of a run with this task and these decisive settings, for any number of processes."""
        decisive = asdict(self.settings) | {"micro_batches": self.micro_batches.total}
        del decisive["checkpoints"]  # a resumed run may change them
        facts = {"trainer": decisive, "task": task.fingerprint()}
        kept = self.settings.checkpoints
        return Checkpoints(self.checkpoint_folder, self.live_folder, facts, kept.keep, kept.address)

    def progress(self, steps: range) -> "tqdm[int]":
        """`steps` with a progress bar, shown by the main process."""
        return tqdm(
            steps,
            initial=steps.start,
            total=self.settings.max_steps,
            desc=self.task.name,
            unit="step",
            mininterval=2,
            disable=not self.accelerator.is_main_process,
        )

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """A context with the model in evaluation mode and the training clock stopped."""
        self.report.stop_clock()
        self.task.model.eval()
        yield
        self.task.model.train()
        self.report.start_clock()

    @contextmanager
    def failures_reported(self) -> Iterator[None]:
        """Report failures; other processes may have ended by then, so their last known counts are used."""
        try:
            yield
        except BaseException:
            self.report.stop_clock()
            self.write_report("failed", together=self.accelerator.num_processes == 1)
            raise

    def write_report(self, status: str, *, together: bool) -> None:
        """Write `train_report.json` if the task wants one; `together` as in `Task.report`."""
        self.report.status = status
        facts = self.task.report(together)
        if facts is not None and self.accelerator.is_main_process:
            self.report.write(self.live_folder, facts)


def is_due(step: int, every: int | None) -> bool:
    """Whether something done `every` so many steps (None: never) is due after `step` steps."""
    return every is not None and step % every == 0


def trained_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The trainable parameters of a model; the rest is frozen."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def make_optimizer(model: nn.Module, settings: Optimizer, *, fused: bool = True) -> torch.optim.AdamW:
    """AdamW on the trainable parameters; fused, it reads and writes them once a step instead of once an operation."""
    trained, decay = trained_parameters(model), settings.weight_decay
    return torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=decay, fused=fused)
