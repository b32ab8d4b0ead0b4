"""The random draws of one micro-batch: noise, timesteps, lambdas and dropped conditions; the loss is the denoiser's."""

import torch
from torch import nn

from fourdistill.models.base.model import encode_null_image
from fourdistill.models.codec import EmbeddingCodec
from fourdistill.shards.loader.batches import Batch
from fourdistill.training.mappers.batches import conditions_of_batch, move
from fourdistill.training.mappers.denoiser import Denoiser
from fourdistill.training.mappers.drops import draw_drops, draw_lambdas, drop_captions, drop_displacements, drop_images
from fourdistill.training.mappers.settings import Loss
from fourdistill.training.mappers.targets import sample_timesteps


class Objective:
    """A micro-batch => its mean loss ()."""

    def __init__(self, denoiser: Denoiser, settings: Loss, device: torch.device, codec: EmbeddingCodec | None = None):
        self.denoiser, self.settings, self.device, self.codec = denoiser, settings, device, codec
        projected = denoiser.adapter.image_prompt.reads_projection
        self.null_image = encode_null_image(denoiser.base.image_encoder, projected)  # (1, S, D)

    def __call__(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> torch.Tensor:
        """`model`: the denoiser prepared by accelerate. All draws are from `generator`, on the CPU."""
        settings, denoiser, device = self.settings, self.denoiser, self.device
        batch = move(batch, device, self.codec)
        drops = draw_drops(len(batch.caption), settings.dropout, generator)
        conditions = conditions_of_batch(batch)
        conditions = drop_images(drop_displacements(conditions, drops), self.null_image, drops)
        noise = torch.randn(batch.target_latents.shape, generator=generator).to(device)
        bias = settings.timestep_bias
        timesteps = sample_timesteps(len(noise), denoiser.num_train_timesteps, bias, generator).to(device)
        captions = drop_captions(batch.caption, drops)
        own, rate = denoiser.adapter.config.settings.lambda_, settings.dropout.bypass
        lambda_ = draw_lambdas(len(noise), own, rate, generator).to(device)
        losses = model(batch.target_latents, noise, timesteps, conditions, captions, lambda_)  # (B,)
        return (losses * batch.weight).mean()
