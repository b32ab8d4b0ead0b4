"""The training loop: accelerate, DVCLive, condition gaps from the first step, checkpoints that resume by themselves."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from PIL import Image
from tqdm import tqdm

from fourdistill.data.loader import Batch, ReadOptions, Shards, fingerprint_shards, list_splits, make_loader
from fourdistill.errors import InputError
from fourdistill.models.adapter import Adapter
from fourdistill.models.base import BaseModel, encode_null_image
from fourdistill.training.batches import make_conditions, move
from fourdistill.training.checkpoint import Checkpoints, weights_hash
from fourdistill.training.drops import draw_drops, draw_keep, drop_captions, drop_displacements, drop_images
from fourdistill.training.gaps import measure_gaps
from fourdistill.training.loss import sample_timesteps
from fourdistill.training.settings import TrainingSettings
from fourdistill.training.step import Denoiser
from fourdistill.training.tracking import start_accelerator

DrawSamples = Callable[[BaseModel, Adapter], Image.Image | None]


def train(
    shards: Shards,
    base: BaseModel,
    adapter: Adapter,
    settings: TrainingSettings,
    *,
    read_options: ReadOptions | None = None,
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
    lr_scheduler = get_scheduler(
        settings.lr_scheduler,
        optimizer,
        num_warmup_steps=settings.warmup_steps,
        num_training_steps=settings.max_steps,
    )
    prepared, optimizer, lr_scheduler = accelerator.prepare(adapter, optimizer, lr_scheduler)
    step = checkpoints.resume(accelerator)
    run = Run(accelerator, base, adapter, prepared, settings, draw_samples, read_options)
    run.load_validation(shards)
    if step == 0:
        run.validate(0)

    trained = [p for group in optimizer.param_groups for p in group["params"]]
    adapter.train()
    progress = tqdm(total=settings.max_steps, initial=step, desc="train", unit="step", mininterval=2)
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
        read_options: ReadOptions | None = None,
    ):
        self.accelerator, self.base, self.adapter, self.settings = accelerator, base, adapter, settings
        self.denoiser = Denoiser.of(base, prepared)
        self.draw_samples, self.read_options = draw_samples, read_options
        self.null_image = encode_null_image(base.image_encoder)
        last = self.denoiser.num_train_timesteps - 1
        if max(settings.gap_timesteps) > last:
            raise InputError(f"train: gap_timesteps: expected at most {last}, the base's last timestep")
        self.validation_batches: list[Batch] = []
        self.validation: dict[str, float] = {}
        self.window: list[torch.Tensor] = []  # losses since the last log
        self.window_start = time.perf_counter()

    def load_validation(self, shards: Shards) -> None:
        """Keep some validation batches, the same ones in every run of one seed; none where there is no such split."""
        count, size = self.settings.num_val_pairs, min(self.settings.batch_size, self.settings.num_val_pairs)
        if count and "val" in list_splits(shards):
            # Each pair once and the same ones for ever, whatever training draws.
            options = None if self.read_options is None else replace(self.read_options, resampled=False)
            loader = make_loader(shards, "val", size, seed=self.settings.seed, shuffle=True, epochs=1, options=options)
            num_batches = math.ceil(count / size)
            self.validation_batches = [move(batch, self.accelerator.device) for batch in islice(loader, num_batches)]

    def train_batches(self, shards: Shards, step: int) -> Iterator[Batch]:
        """Training batches from `step` to the end; those of earlier steps are skipped."""
        settings = self.settings
        loader = make_loader(
            shards,
            "train",
            settings.batch_size,
            seed=settings.seed,
            shuffle=True,
            num_workers=settings.num_workers,
            start_batch=step,
            options=self.read_options,
        )
        for batch in islice(loader, settings.max_steps - step):
            yield move(batch, self.accelerator.device)

    def loss(self, batch: Batch, step: int) -> torch.Tensor:
        """The mean loss of a batch. Dropouts, noise and timesteps follow from (seed, step) alone."""
        settings, device = self.settings, batch.target_latents.device
        seed = settings.seed * 1_000_003 + step * self.accelerator.num_processes + self.accelerator.process_index
        generator = torch.Generator().manual_seed(seed)
        drops = draw_drops(len(batch.caption), settings.dropout, generator)
        conditions = make_conditions(batch, self.adapter.config.settings.view_encoding)
        conditions = self.adapter.displace(drop_displacements(conditions, drops))
        conditions, captions = drop_images(conditions, self.null_image, drops), drop_captions(batch.caption, drops)
        noise = torch.randn(batch.target_latents.shape, generator=generator).to(device)
        timesteps = sample_timesteps(
            len(noise), self.denoiser.num_train_timesteps, settings.timestep_bias, generator
        ).to(device)
        width = self.adapter.config.settings.hidden_width
        keep = draw_keep(len(noise), width, settings.nested_dropout, generator)
        keep = None if keep is None else keep.to(device)
        with self.accelerator.autocast():
            return self.denoiser.losses(batch.target_latents, noise, timesteps, conditions, captions, keep).mean()

    def log(self, step: int, loss: torch.Tensor, lr: float) -> None:
        """Log the mean training loss and the speed every `log_every` steps."""
        self.window.append(loss.detach())
        if step % self.settings.log_every:
            return
        seconds = time.perf_counter() - self.window_start
        samples = len(self.window) * self.settings.batch_size * self.accelerator.num_processes
        values = {"train.loss": torch.stack(self.window).mean().item(), "train.lr": lr}
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
            self.denoiser, self.adapter, self.validation_batches, settings.gap_timesteps, settings.seed
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


def make_optimizer(adapter: Adapter, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW on the groups that are trained; the others are frozen."""
    rates = {"mappers": settings.learning_rate, "lora": settings.lora_learning_rate}
    groups = []
    for name, parameters in adapter.parameter_groups().items():
        for parameter in parameters:
            parameter.requires_grad_(name in settings.trainable)
        if name == "lora" in settings.trainable and not parameters:
            raise InputError("train: trainable: lora: expected a lora_rank above 0")
        if name in settings.trainable and parameters:
            lr = rates.get(name, settings.image_prompt_learning_rate)
            groups.append({"params": parameters, "lr": lr})
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay)


def format_gaps(gaps: dict[str, float]) -> str:
    """`image 0.12/0.34/0.56  time …`: the gaps in the order of their noise levels."""
    names = dict.fromkeys(name.split(".")[1] for name in gaps)
    levels = {name: [f"{v:.4f}" for key, v in gaps.items() if key.split(".")[1] == name] for name in names}
    return "  ".join(f"{name} {'/'.join(values)}" for name, values in levels.items())


def fingerprint(shards: Shards, base: BaseModel, adapter: Adapter, settings: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint must agree with: settings, data, base and adapter."""
    return {
        "settings": settings,
        "adapter": asdict(adapter.config),
        "shards": fingerprint_shards(shards),
        "initial_weights": weights_hash(adapter),
        "unet": weights_hash(base.unet),
        "text_encoder": weights_hash(base.text_encoder),
    }
