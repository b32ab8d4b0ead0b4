"""The computation of one training step, shared by training, validation and the condition gaps."""

from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import nn

from fourdistill.errors import InputError
from fourdistill.models.adapter import Adapter
from fourdistill.models.base.model import BaseModel, vae_scale_factor
from fourdistill.models.base.text import PromptEncoder, text_encoders_of
from fourdistill.models.conditions import Conditions
from fourdistill.training.mappers.settings import LossKind
from fourdistill.training.mappers.targets import prediction_target, squared_error


class Denoiser(nn.Module):
    """The frozen base conditioned by the adapter, as a loss per sample.

    The base is not a submodule: only the adapter is distributed, saved and loaded.
    """

    def __init__(self, base: BaseModel, adapter: Adapter, loss: LossKind = "distill"):
        """Use the base's noise schedule, whichever sampler it ships with.

        Raises `InputError` if there is nothing to distil from.
        """
        super().__init__()
        if loss == "distill" and adapter.prior is None:
            raise InputError("train.loss.kind: expected ddpm without a prior, as with mapper_input displacement")
        self.base, self.adapter, self.loss = base, adapter, loss
        self.schedule: Any = DDPMScheduler.from_config(base.scheduler.config)
        self.encode_prompts = PromptEncoder.of(base, base.zero_empty_prompt)

    @property
    def num_train_timesteps(self) -> int:
        """T of the base's noise schedule."""
        return self.schedule.config["num_train_timesteps"]

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """`losses`, in the training precision once accelerate has prepared this module."""
        return self.losses(*args, **kwargs)

    def losses(
        self,
        latents: torch.Tensor,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
        conditions: Conditions,
        captions: list[str],
        lambda_: float | torch.Tensor | None = None,
        loss: LossKind | None = None,
    ) -> torch.Tensor:
        """latents, noise (B, C, h, w), timesteps (B,), conditions and captions of B samples => losses (B,).

        `lambda_`: of equation (1), one per sample (B,), or one for all; None: the adapter's own. `loss`: None is the
        training loss.
        """
        # Noise the target frame's latents.
        noisy_latents = self.schedule.add_noise(latents, noise, timesteps)
        # Condition on the prompt and on the words for the predicted frame i.
        prompts = self.encode_prompts(captions)
        given = (text_encoders_of(self.base), prompts.tokens, conditions, timesteps)
        factor = vae_scale_factor(self.base.vae)
        added = prompts.added(*(factor * side for side in latents.shape[2:]))
        tokens = self.adapter.foresee(conditions)
        conditioning = self.adapter(*given, lambda_, tokens=tokens)
        # Predict, and compare with the U-Net's output given that image, or with the true target.
        noise_pred = self.predict(noisy_latents, timesteps, conditioning, added)
        match loss or self.loss:
            case "ddpm":
                target = prediction_target(self.schedule, latents, noise, timesteps)
            case "distill":
                with torch.no_grad():
                    shown = self.adapter(*given, carrier="image_prompt", tokens=tokens)
                    target = self.predict(noisy_latents, timesteps, shown, added)
        return squared_error(noise_pred, target)

    def predict(self, noisy_latents: torch.Tensor, timesteps: torch.Tensor, conditioning: Any, added: Any) -> Any:
        """The U-Net's output (B, C, h, w); `added` is its `added_cond_kwargs`."""
        return self.base.unet(
            noisy_latents, timesteps, encoder_hidden_states=conditioning, added_cond_kwargs=added
        ).sample
