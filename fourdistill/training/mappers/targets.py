"""The U-Net's prediction target (Ho et al., arXiv 2006.11239; v: arXiv 2202.00512), and the timestep distribution."""

import torch
from diffusers import DDPMScheduler
from torch.nn import functional as F

from fourdistill.errors import InputError


def prediction_target(
    schedule: DDPMScheduler, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """latents, noise (B, C, h, w), timesteps (B,) => the U-Net's target, (B, C, h, w)."""
    prediction_type = schedule.config["prediction_type"]
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        return schedule.get_velocity(latents, noise, timesteps)  # type: ignore[arg-type]
    if prediction_type == "sample":
        return latents
    raise InputError(f"base: prediction_type: expected epsilon, v_prediction or sample, got {prediction_type!r}")


def squared_error(noise_pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) each => the mean squared error per sample, (B,)."""
    return F.mse_loss(noise_pred.float(), target.float(), reduction="none").mean(dim=(1, 2, 3))


def sample_timesteps(
    batch_size: int, num_train_timesteps: int, bias: float, generator: torch.Generator
) -> torch.Tensor:
    """(B,) timesteps, t/T with density proportional to (t/T)^bias: 0 is uniform, larger values favour high noise."""
    uniform = torch.rand(batch_size, generator=generator)
    return (uniform ** (1 / (1 + bias)) * num_train_timesteps).long().clamp(max=num_train_timesteps - 1)
