"""Mapper training as a task: loss, validation, and the state for its checkpoints."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from torch import nn

from fourdistill.errors import InputError
from fourdistill.models.adapter import Adapter
from fourdistill.models.base.model import BaseModel
from fourdistill.models.base.text import text_encoders_of
from fourdistill.shards.loader.batches import Shards, fingerprint_shards
from fourdistill.shards.loader.codec import load_shards_codec
from fourdistill.training.mappers.data import TrainingData, ValidationData
from fourdistill.training.mappers.denoiser import Denoiser
from fourdistill.training.mappers.gaps import format_gaps, measure_gaps
from fourdistill.training.mappers.objective import Objective
from fourdistill.training.mappers.placement import place_base
from fourdistill.training.mappers.settings import Train
from fourdistill.training.runtime.hashes import weights_hash
from fourdistill.training.runtime.micro_batches import MicroBatches
from fourdistill.training.runtime.sharding import is_sharded
from fourdistill.training.runtime.task import Task

DrawSamples = Callable[[BaseModel, Adapter], Image.Image | None]
_OF_THE_ORDER = ("shuffle_buffer", "resampled", "num_workers")  # loader settings that determine the order of pairs
# Seen in the adapter, its weights and the data.
_ELSEWHERE = ("launcher", "start", "ip_adapter", "mappers", "sampling", "loader")


class MapperTask(Task):
    """Training of an adapter's words through the frozen base, on pairs in shards."""

    def __init__(
        self,
        shards: Shards,
        base: BaseModel,
        adapter: Adapter,
        settings: Train,
        seed: int,
        micro_batches: MicroBatches,
        *,
        adapter_folder: Path,
        draw_samples: DrawSamples | None = None,
    ):
        self.denoiser = Denoiser(base, adapter, settings.loss.kind)
        super().__init__("train", self.denoiser, settings.logging.sample_every)
        last = self.denoiser.num_train_timesteps - 1
        if max(settings.logging.gap_timesteps) > last:
            raise InputError(f"train.logging.gap_timesteps: expected at most {last}, the base's last timestep")
        self.shards, self.micro_batches = shards, micro_batches
        self.base, self.adapter, self.settings, self.seed = base, adapter, settings, seed
        self.adapter_folder, self.draw_samples = adapter_folder, draw_samples

    def fingerprint(self) -> dict[str, Any]:
        """Settings, data, base and adapter."""
        settings = asdict(self.settings)
        del settings["checkpoints"], settings["micro_batches"]  # a resumed run may change them
        return {
            "settings": {name: value for name, value in settings.items() if name not in _ELSEWHERE},
            "seed": self.seed,
            "adapter": asdict(self.adapter.config),
            "shards": fingerprint_shards(self.shards),
            "reading": {name: settings["loader"][name] for name in _OF_THE_ORDER},
            "initial_weights": weights_hash(self.adapter),
            "unet": weights_hash(self.base.unet),
            "text_encoder": weights_hash(text_encoders_of(self.base)),
        }

    def place(self, accelerator: Accelerator) -> None:
        """Move the base to the devices."""
        self.accelerator = accelerator
        place_base(self.base, accelerator, self.settings.compute)
        codec = load_shards_codec(self.shards)
        self.codec = None if codec is None else codec.to(accelerator.device)
        self.objective = Objective(self.denoiser, self.settings.loss, accelerator.device, self.codec)

    def start(self, step: int, kept: dict[str, Any]) -> None:
        """Open the shards at the position of this step."""
        settings = self.settings
        reading = self.shards, settings.loader, self.seed
        self.data = TrainingData(*reading, self.micro_batches, step, kept.get("data", {}))
        count = settings.logging.num_val_pairs
        self.val_data = ValidationData(*reading, count, settings.batch_size, self.accelerator.device, self.codec)

    def loss(
        self, model: nn.Module, step: int, micro_batch: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """The denoiser's mean error () on the next pairs."""
        return self.objective(model, self.data.next(micro_batch), generator), {}

    def figures(self) -> dict[str, float]:
        """Counts of unreadable data; raises `InputError` if there is too much."""
        return {**self.data.check()}

    def validate(self) -> dict[str, float]:
        """Losses and condition gaps of the validation pairs."""
        if not self.val_data.batches:
            return {}
        timesteps = self.settings.logging.gap_timesteps
        with self.accelerator.autocast():
            return measure_gaps(self.denoiser, self.adapter, self.val_data.batches, timesteps, self.seed)

    def describe(self, validation: dict[str, float]) -> str:
        """Format the loss and gaps."""
        return f"val.loss {validation['val.loss']:.4f}  gaps {format_gaps(validation)}"

    def sample(self) -> Image.Image | None:
        """A contact sheet of generated images; a sharded U-Net needs all processes for it."""
        if self.draw_samples is None or not (self.accelerator.is_main_process or is_sharded(self.base.unet)):
            return None
        with self.accelerator.autocast():
            return self.draw_samples(self.base, self.adapter)

    def state(self) -> dict[str, Any]:
        """Counts of data read and lost so far."""
        self.data.count()
        return {"data": self.data.counts}

    def save(self, validation: dict[str, float]) -> None:
        """Save the adapter."""
        settings = {name: value for name, value in asdict(self.settings).items() if name not in _ELSEWHERE}
        facts = {"steps": self.settings.max_steps, "seed": self.seed, **settings, "validation": validation}
        self.adapter.save(self.adapter_folder, facts)

    def report(self, together: bool) -> dict[str, Any]:
        """What the loaders have read and lost, in total and for this run's validation pairs."""
        if together:
            self.data.count()
        return {"data": self.data.counts, "validation": self.val_data.counts}
