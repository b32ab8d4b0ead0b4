"""One training step's mathematics, shared by training, validation and the condition gaps."""

from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import nn

from fourdistill.models.adapter import Adapter
from fourdistill.models.base import BaseModel
from fourdistill.models.conditions import Conditions
from fourdistill.models.text import PromptEncoder
from fourdistill.training.loss import ddpm_loss, prediction_target


class Denoiser(nn.Module):
    """The frozen base with the adapter in front of it, as a loss per sample.

    The base is no submodule: the adapter alone is distributed, saved and loaded. Gradients of updates inside of the
    U-Net (LoRA) belong to the forward pass of the whole, which is therefore what is wrapped for many devices.
    """

    def __init__(self, base: BaseModel, adapter: Adapter):
        """On the base's own noise schedule, whichever sampler it ships with."""
        super().__init__()
        self.base, self.adapter = base, adapter
        self.schedule: Any = DDPMScheduler.from_config(base.scheduler.config)
        self.encode_prompts = PromptEncoder(base.tokenizer, base.text_encoder)

    @property
    def num_train_timesteps(self) -> int:
        """T of the base's noise schedule."""
        return self.schedule.config["num_train_timesteps"]

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """`losses`, in the precision of the training once accelerate has prepared this module."""
        return self.losses(*args, **kwargs)

    def losses(
        self,
        latents: torch.Tensor,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
        conditions: Conditions,
        captions: list[str],
        keep: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """latents, noise (B, C, h, w), timesteps (B,), conditions and captions of B samples => losses (B,).

        `keep` (B,): of the mappers' nested dropout.
        """
        # Noise the target frame's latents.
        noisy_latents = self.schedule.add_noise(latents, noise, timesteps)
        # Condition on the prompt, v* per layer, and frame j's image tokens.
        prompt_embeds = self.encode_prompts(captions)  # (B, L, D)
        conditioning = self.adapter(self.base.text_encoder, prompt_embeds, conditions, timesteps, keep=keep)
        # Predict, and compare with what the base was trained to predict.
        noise_pred = self.base.unet(noisy_latents, timesteps, encoder_hidden_states=conditioning).sample
        return ddpm_loss(noise_pred, prediction_target(self.schedule, latents, noise, timesteps))
