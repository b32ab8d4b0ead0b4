"""The training loop: accelerate, DVCLive, condition gaps from the first step, checkpoints that resume by themselves."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from PIL import Image
from torch.optim.lr_scheduler import LRScheduler, SequentialLR
from tqdm import tqdm

from fourdistill.data.loader import Batch, list_splits, make_loader
from fourdistill.errors import InputError
from fourdistill.models.adapter import Adapter
from fourdistill.models.base import BaseModel, encode_null_image
from fourdistill.models.precision import default_device, resolve_precision
from fourdistill.training.batches import draw_drops, drop_conditions, drop_images, make_conditions, move
from fourdistill.training.checkpoint import Checkpoints, fingerprint
from fourdistill.training.gaps import measure_gaps
from fourdistill.training.image_tokens import image_token_losses
from fourdistill.training.loss import sample_timesteps
from fourdistill.training.settings import TrainingSettings
from fourdistill.training.step import Denoiser

DrawSamples = Callable[[BaseModel, Adapter], Image.Image | None]


def train(
    shards: Path,
    base: BaseModel,
    adapter: Adapter,
    settings: TrainingSettings,
    *,
    adapter_folder: Path,
    live_folder: Path,
    checkpoint_folder: Path,
    draw_samples: DrawSamples | None = None,
) -> dict[str, float]:
    """Train `adapter` on the pairs in `shards`, save it to `adapter_folder`, and return the last validation.

    Metrics go to `live_folder` (DVCLive). A killed run goes on from the checkpoint in `checkpoint_folder` when it is
    called again with the same arguments, with the same batches and draws as if it had not been interrupted.
    """
    checkpoints = Checkpoints(checkpoint_folder, live_folder, fingerprint(shards, base, adapter, asdict(settings)))
    accelerator = start_accelerator(live_folder, settings.mixed_precision, resume=checkpoints.restore_live())
    base.to(accelerator.device)
    optimizer = make_optimizer(adapter, settings)
    lr_scheduler = make_lr_scheduler(optimizer, settings)
    prepared, optimizer, lr_scheduler = accelerator.prepare(adapter, optimizer, lr_scheduler)
    step = checkpoints.resume(accelerator)
    run = Run(accelerator, base, adapter, prepared, settings, draw_samples)
    run.load_validation(shards)
    if step == 0:
        run.validate(0)

    trained = [p for group in optimizer.param_groups for p in group["params"]]
    adapter.train()
    progress = tqdm(total=settings.max_steps, initial=step, desc="train", unit="step", smoothing=0.05)
    for batch in run.train_batches(shards, step):
        loss = run.loss(batch, step)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(trained, settings.max_grad_norm)
        optimizer.step()
        lr_scheduler.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        progress.update()
        run.log(step, loss, lr_scheduler.get_last_lr()[0])
        if step % settings.validate_every == 0 or step == settings.max_steps:
            run.validate(step)
        if step % settings.sample_every == 0 or step == settings.max_steps:
            run.sample()
        if step % settings.checkpoint_every == 0 and step < settings.max_steps:
            checkpoints.save(accelerator, step)
    progress.close()

    if accelerator.is_main_process:
        adapter.save(adapter_folder, {"steps": step, **asdict(settings), "validation": run.validation})
        checkpoints.clear()
    accelerator.end_training()
    return run.validation


class Run:
    """One training run between its parts: batches and draws in, losses and metrics out."""

    def __init__(
        self,
        accelerator: Accelerator,
        base: BaseModel,
        adapter: Adapter,
        prepared: torch.nn.Module,
        settings: TrainingSettings,
        draw_samples: DrawSamples | None,
    ):
        self.accelerator, self.base, self.adapter, self.settings = accelerator, base, adapter, settings
        self.denoiser = Denoiser.of(base, prepared)
        self.draw_samples = draw_samples
        self.null_image = encode_null_image(base.image_encoder)
        self.projector = token_teacher(base, accelerator) if settings.token_steps else None
        self.view_encoding = adapter.config.settings.view_encoding
        last = self.denoiser.num_train_timesteps - 1
        if max(settings.gap_timesteps) > last:
            raise InputError(f"train: gap_timesteps: expected at most {last}, the base's last timestep")
        self.validation_batches: list[Batch] = []
        self.validation: dict[str, float] = {}
        self.window: list[torch.Tensor] = []  # losses since the last log
        self.window_start = time.perf_counter()

    def load_validation(self, shards: Path) -> None:
        """Keep some validation batches, the same ones in every run of one seed; none where there is no such split."""
        count, size = self.settings.num_val_pairs, min(self.settings.batch_size, self.settings.num_val_pairs)
        if count and "val" in list_splits(shards):
            loader = make_loader(shards, "val", size, seed=self.settings.seed, shuffle=True, epochs=1)
            num_batches = math.ceil(count / size)
            self.validation_batches = [move(batch, self.accelerator.device) for batch in islice(loader, num_batches)]

    def train_batches(self, shards: Path, step: int) -> Iterator[Batch]:
        """Training batches from `step` to the end; those of earlier steps are read and skipped."""
        settings = self.settings
        loader = make_loader(
            shards,
            "train",
            settings.batch_size,
            seed=settings.seed,
            shuffle=True,
            num_workers=settings.num_workers,
            target_embeds=step < settings.token_steps,
        )
        for batch in islice(loader, step, settings.max_steps):
            yield move(batch, self.accelerator.device)

    def loss(self, batch: Batch, step: int) -> torch.Tensor:
        """The mean loss of a batch. Dropouts, noise and timesteps follow from (seed, step) alone."""
        settings, device = self.settings, batch.target_latents.device
        seed = settings.seed * 1_000_003 + step * self.accelerator.num_processes + self.accelerator.process_index
        generator = torch.Generator().manual_seed(seed)
        drops = draw_drops(len(batch.caption), settings.dropout, generator)
        conditions = make_conditions(batch, self.view_encoding)
        conditions, captions = drop_conditions(conditions, batch.caption, self.null_image, drops)
        if step < settings.token_steps and self.projector is not None and batch.target_embeds is not None:
            target_embeds = drop_images(batch.target_embeds, self.null_image, drops)
            with self.accelerator.autocast():
                return image_token_losses(self.adapter, self.projector, conditions, target_embeds).mean()
        noise = torch.randn(batch.target_latents.shape, generator=generator).to(device)
        timesteps = sample_timesteps(
            len(noise), self.denoiser.num_train_timesteps, settings.timestep_bias, generator
        ).to(device)
        with self.accelerator.autocast():
            return self.denoiser.losses(batch.target_latents, noise, timesteps, conditions, captions).mean()

    def log(self, step: int, loss: torch.Tensor, lr: float) -> None:
        """Log the mean training loss and the speed every `log_every` steps, and where the first phase ends."""
        self.window.append(loss.detach())
        if step % self.settings.log_every and step != self.settings.token_steps:
            return
        name = "train.token_loss" if step <= self.settings.token_steps else "train.loss"
        seconds = time.perf_counter() - self.window_start
        samples = len(self.window) * self.settings.batch_size * self.accelerator.num_processes
        values = {name: torch.stack(self.window).mean().item(), "train.lr": lr}
        self.accelerator.log({**values, "train.samples_per_s": samples / seconds}, step=step)
        self.window, self.window_start = [], time.perf_counter()

    def validate(self, step: int) -> None:
        """Log validation losses and condition gaps."""
        if not self.validation_batches:
            return
        started = time.perf_counter()
        self.adapter.eval()
        settings = self.settings
        self.validation = measure_gaps(
            self.denoiser, self.validation_batches, self.view_encoding, settings.gap_timesteps, settings.seed
        )
        self.adapter.train()
        self.accelerator.log(self.validation, step=step)
        gaps = {name: value for name, value in self.validation.items() if name.startswith("gap.")}
        tqdm.write(f"step {step}: val.loss {self.validation['val.loss']:.4f}  gaps " + format_gaps(gaps))
        self.window_start += time.perf_counter() - started

    def sample(self) -> None:
        """Log a contact sheet of generated images."""
        if self.draw_samples is None or not self.accelerator.is_main_process:
            return
        started = time.perf_counter()
        self.adapter.eval()
        image = self.draw_samples(self.base, self.adapter)
        self.adapter.train()
        if image is not None:
            live: Any = self.accelerator.get_tracker("dvclive", unwrap=True)
            live.log_image("samples.png", image)
        self.window_start += time.perf_counter() - started


def start_accelerator(live_folder: Path, mixed_precision: str, *, resume: bool) -> Accelerator:
    """An accelerator that logs to DVCLive in `live_folder`; DVC's own files are left to DVC."""
    precision = resolve_precision(mixed_precision, default_device())
    accelerator = Accelerator(log_with="dvclive", mixed_precision=precision)
    if accelerator.num_processes > 1:
        raise InputError("train: expected one process: several would train on the same pairs")
    live = {"dir": str(live_folder), "save_dvc_exp": False, "dvcyaml": None, "resume": resume}
    accelerator.init_trackers("fourdistill", init_kwargs={"dvclive": live})
    return accelerator


def token_teacher(base: BaseModel, accelerator: Accelerator) -> torch.nn.Module:
    """The base's own image projector, which says what the image tokens of a target are."""
    if base.ip_adapter is None:
        raise InputError(f"{base.name}: expected a base loaded with its IP-Adapter, to fit image tokens to")
    return base.ip_adapter.projector.to(accelerator.device)


def make_lr_scheduler(optimizer: torch.optim.Optimizer, settings: TrainingSettings) -> LRScheduler:
    """The schedule of diffusers' that the settings name, once for each phase: v* first learns in the second one."""

    def over(steps: int, peak: float | None = None) -> LRScheduler:
        warmup = settings.warmup_steps
        scheduler = get_scheduler(settings.lr_scheduler, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
        if peak is not None:  # in place of each group's own rate
            factors = zip(scheduler.lr_lambdas, scheduler.base_lrs, strict=True)
            scheduler.lr_lambdas = [lambda step, of=of, lr=lr: of(step) * peak / lr for of, lr in factors]
        return scheduler

    first, second = settings.token_steps, settings.max_steps - settings.token_steps
    if not first:
        return over(second)
    if not second:
        return over(first, settings.token_learning_rate)
    return SequentialLR(optimizer, [over(first, settings.token_learning_rate), over(second)], milestones=[first])


def make_optimizer(adapter: Adapter, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW on the groups that are trained; the others are frozen."""
    rates = dict.fromkeys(("image_prompt", "displacement_tokens"), settings.image_prompt_learning_rate)
    groups = []
    for name, parameters in adapter.parameter_groups().items():
        for parameter in parameters:
            parameter.requires_grad_(name in settings.trainable)
        if name in settings.trainable and parameters:
            groups.append({"params": parameters, "lr": rates.get(name, settings.learning_rate)})
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay)


def format_gaps(gaps: dict[str, float]) -> str:
    """`image 0.12/0.34/0.56  time …`: the gaps in the order of their noise levels."""
    names = dict.fromkeys(name.split(".")[1] for name in gaps)
    levels = {name: [f"{v:.4f}" for key, v in gaps.items() if key.split(".")[1] == name] for name in names}
    return "  ".join(f"{name} {'/'.join(values)}" for name, values in levels.items())
