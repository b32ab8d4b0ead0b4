"""What a training shows while it runs: losses and speed, validation with condition gaps, samples, and its report."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from PIL import Image
from tqdm import tqdm

from fourdistill.errors import InputError
from fourdistill.models.adapter import Adapter
from fourdistill.models.base.model import BaseModel
from fourdistill.shards.loader.batches import (
    Batch,
    Loader,
    ReadOptions,
    Shards,
    check_lost,
    in_whole_epochs,
    list_splits,
    make_loader,
    merge_reports,
)
from fourdistill.training.mappers.batches import move
from fourdistill.training.mappers.gaps import measure_gaps
from fourdistill.training.mappers.settings import TrainingSettings
from fourdistill.training.mappers.step import Denoiser
from fourdistill.training.runtime.report import TrainReport
from fourdistill.training.runtime.sharding import is_sharded
from fourdistill.training.runtime.tracking import mean_over_processes

DrawSamples = Callable[[BaseModel, Adapter], Image.Image | None]


class Monitor:
    """Metrics of one run. Every process has one and takes part in what is averaged; the main one writes."""

    def __init__(
        self,
        accelerator: Accelerator,
        denoiser: Denoiser,
        settings: TrainingSettings,
        draw_samples: DrawSamples | None,
        report: TrainReport,
        live_folder: Path,
    ):
        self.accelerator, self.denoiser, self.settings = accelerator, denoiser, settings
        self.draw_samples, self.report, self.live_folder = draw_samples, report, live_folder
        last = denoiser.num_train_timesteps - 1
        if max(settings.gap_timesteps) > last:
            raise InputError(f"train: gap_timesteps: expected at most {last}, the base's last timestep")
        self.validation_batches: list[Batch] = []
        self.validation: dict[str, float] = {}
        self.window: list[torch.Tensor] = []  # losses since the last log
        self.loaders: list[Loader] = []
        self.logged_step, self.logged_s = 0, 0.0  # step and the report's seconds at the last log

    def start(self, step: int, kept: dict[str, Any], loaders: list[Loader]) -> None:
        """Go on after `step` steps from what a checkpoint kept of `state`, maybe nothing."""
        self.loaders = loaders
        if kept:
            self.report.resume(kept["report"])
            mean, count = kept["window"]
            self.window = [torch.tensor(mean, device=self.accelerator.device)] * count
        self.report.steps = self.logged_step = step
        self.logged_s = self.report.seconds

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: the report, and the losses since the last log as their mean and number."""
        self.count_data()
        mean = mean_over_processes(self.accelerator, self.window) if self.window else 0.0
        return {"report": self.report.state(), "window": (mean, len(self.window))}

    def load_validation(self, shards: Shards, options: ReadOptions | None = None) -> None:
        """Keep some validation batches, the same ones in every run of one seed; none where there is no such split."""
        count, size = self.settings.num_val_pairs, min(self.settings.batch_size, self.settings.num_val_pairs)
        if count and "val" in list_splits(shards):
            # Each pair once and the same ones for ever, whatever training draws.
            options = None if options is None else replace(options, resampled=False)
            loader = make_loader(shards, "val", size, seed=self.settings.seed, shuffle=True, epochs=1, options=options)
            num_batches = math.ceil(count / size)
            self.validation_batches = [move(batch, self.accelerator.device) for batch in islice(loader, num_batches)]
            self.report.validation = loader.report.counts()
        pairs = [batch.pair_id.tolist() for batch in self.validation_batches]
        if any(theirs != pairs for theirs in gather_object([pairs])):  # some could not be read everywhere
            raise InputError("train: val: expected the same validation pairs in all processes, found others in some")

    def add(self, loss: torch.Tensor) -> None:
        """Count the loss () of one part."""
        self.window.append(loss.detach())

    def after_step(self, step: int, lr: float) -> None:
        """Log, validate and draw samples when it is time."""
        settings = self.settings
        self.report.steps = step
        if step % settings.log_every == 0 or step == settings.max_steps:
            self.log(step, lr)
        if step % settings.validate_every == 0 or step == settings.max_steps:
            self.validate(step)
        if step % settings.sample_every == 0 or step == settings.max_steps:
            self.sample()

    def log(self, step: int, lr: float) -> None:
        """Log the mean training loss over all processes, and the speed."""
        self.report.stop_clock()
        self.check_data(self.count_data())
        loss = mean_over_processes(self.accelerator, self.window)
        samples = (step - self.logged_step) * self.settings.batch_size
        speed = samples / max(self.report.seconds - self.logged_s, 1e-9)
        values = {"train.loss": loss, "train.lr": lr, "train.samples_per_s": speed}
        values |= {f"train.{name}": count for name, count in self.report.lost.items()}
        self.accelerator.log(values, step=step)
        if self.accelerator.is_main_process:
            self.report.write(self.live_folder)
        self.window, self.logged_s, self.logged_step = [], self.report.seconds, step

    def count_data(self) -> dict[str, Any]:
        """Take over what the loaders of all processes have read and lost in this run; returns it."""
        counts = merge_reports(gather_object([each.report.counts() for each in self.loaders]))
        self.report.count_data(counts)
        return counts

    def check_data(self, counts: dict[str, Any]) -> None:
        """Raise `InputError` where all processes together have lost too much, though none of them has alone."""
        for report in [each.report for each in self.loaders[:1]]:
            total = in_whole_epochs(counts["shards_read"], len(report.shards))
            where = f"{report.shards[0].url} and others: "
            check_lost(counts["shards_lost"], total, report.max_bad_fraction, where)

    @contextmanager
    def training(self) -> Iterator[None]:
        """Time of steps; the report says so where they fail."""
        self.report.start_clock()
        try:
            yield
        except BaseException:
            self.fail()
            raise
        self.report.stop_clock()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Time within it that is no training."""
        self.report.stop_clock()
        yield
        self.report.start_clock()

    def validate(self, step: int) -> None:
        """Log validation losses and condition gaps; every process computes them all, which keeps them in step."""
        if not self.validation_batches:
            return
        settings, adapter = self.settings, self.denoiser.adapter
        with self.pause():
            adapter.eval()
            self.validation = measure_gaps(
                self.denoiser, adapter, self.validation_batches, settings.gap_timesteps, settings.seed
            )
            adapter.train()
            self.accelerator.log(self.validation, step=step)
            gaps = {name: value for name, value in self.validation.items() if name.startswith("gap.")}
            if self.accelerator.is_main_process:
                tqdm.write(f"step {step}: val.loss {self.validation['val.loss']:.4f}  gaps " + format_gaps(gaps))

    def sample(self) -> None:
        """Log a contact sheet of generated images; a sharded U-Net needs all processes for it."""
        is_main = self.accelerator.is_main_process
        if self.draw_samples is None or not (is_main or is_sharded(self.denoiser.base.unet)):
            return
        with self.pause():
            self.denoiser.adapter.eval()
            image = self.draw_samples(self.denoiser.base, self.denoiser.adapter)
            self.denoiser.adapter.train()
            if image is not None and is_main:
                live: Any = self.accelerator.get_tracker("dvclive", unwrap=True)
                live.log_image("samples.png", image)

    def fail(self) -> None:
        """Write the report of a run that stops here; others may be gone, and their last counts stand."""
        self.report.stop_clock()
        if self.accelerator.num_processes == 1:
            self.count_data()
        self.report.status = "failed"
        if self.accelerator.is_main_process:
            self.report.write(self.live_folder)

    def close(self, status: str) -> None:
        """Write the last report."""
        self.count_data()
        self.report.status = status
        if self.accelerator.is_main_process:
            self.report.write(self.live_folder)


def format_gaps(gaps: dict[str, float]) -> str:
    """`image 0.12/0.34/0.56  time …`: the gaps in the order of their noise levels."""
    names = dict.fromkeys(name.split(".")[1] for name in gaps)
    levels = {name: [f"{v:.4f}" for key, v in gaps.items() if key.split(".")[1] == name] for name in names}
    return "  ".join(f"{name} {'/'.join(values)}" for name, values in levels.items())
