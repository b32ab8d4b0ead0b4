"""The loss that a step minimises: draws of one micro-batch, dropped conditions, and the denoiser's error."""

import torch
from accelerate import Accelerator
from torch import nn

from fourdistill.models.base.model import encode_null_image
from fourdistill.shards.loader.batches import Batch
from fourdistill.training.mappers.batches import make_conditions, move
from fourdistill.training.mappers.drops import draw_drops, draw_lambdas, drop_captions, drop_displacements, drop_images
from fourdistill.training.mappers.loss import sample_timesteps
from fourdistill.training.mappers.settings import TrainingSettings
from fourdistill.training.mappers.step import Denoiser
from fourdistill.training.runtime.micro_batches import MicroBatches


class Objective:
    """A micro-batch => its mean loss (). `model`: the denoiser as accelerate has prepared it."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        denoiser: Denoiser,
        settings: TrainingSettings,
        micro_batches: MicroBatches,
    ):
        self.accelerator, self.model, self.denoiser = accelerator, model, denoiser
        self.settings, self.micro_batches = settings, micro_batches
        self.null_image = encode_null_image(denoiser.base.image_encoder)  # (1, S, D)

    def __call__(self, batch: Batch, step: int, micro_batch: int) -> torch.Tensor:
        """Dropouts, noise and timesteps follow from (seed, step, micro-batch) alone, and are drawn on the processor."""
        settings, denoiser, device = self.settings, self.denoiser, self.accelerator.device
        batch = move(batch, device)
        generator = torch.Generator().manual_seed(self.micro_batches.draw_seed(settings.seed, step, micro_batch))
        drops = draw_drops(len(batch.caption), settings.dropout, generator)
        conditions = make_conditions(batch)
        conditions = drop_images(drop_displacements(conditions, drops), self.null_image, drops)
        noise = torch.randn(batch.target_latents.shape, generator=generator).to(device)
        bias = settings.timestep_bias
        timesteps = sample_timesteps(len(noise), denoiser.num_train_timesteps, bias, generator).to(device)
        captions = drop_captions(batch.caption, drops)
        own, rate = denoiser.adapter.config.settings.lambda_, settings.dropout.bypass
        lambda_ = draw_lambdas(len(noise), own, rate, generator).to(device)
        return self.model(batch.target_latents, noise, timesteps, conditions, captions, lambda_).mean()
