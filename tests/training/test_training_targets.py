from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler

from fourdistill.training.mappers.targets import prediction_target, sample_timesteps, squared_error


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 4, 2, 2, generator=generator), torch.randn(3, 4, 2, 2, generator=generator)


def test_targets_by_hand(batch):
    latents, noise = batch
    timesteps = torch.tensor([0, 500, 999])
    for prediction_type in ("epsilon", "sample", "v_prediction"):
        schedule = DDPMScheduler(prediction_type=prediction_type, beta_schedule="squaredcos_cap_v2")
        alpha = schedule.alphas_cumprod[timesteps].sqrt()[:, None, None, None]
        sigma = (1 - schedule.alphas_cumprod[timesteps]).sqrt()[:, None, None, None]
        expected = {"epsilon": noise, "sample": latents, "v_prediction": alpha * noise - sigma * latents}
        target = prediction_target(schedule, latents, noise, timesteps)
        assert torch.allclose(target, expected[prediction_type], atol=1e-6)


def test_loss_is_per_sample(batch):
    latents, noise = batch
    losses = squared_error(latents, noise)
    assert losses.shape == (3,)
    assert losses[1].item() == pytest.approx(((latents[1] - noise[1]) ** 2).mean().item())


@pytest.mark.parametrize("bias", [0.0, 1.0, 3.0])
def test_timesteps_follow_their_density(bias):
    timesteps = sample_timesteps(20000, 1000, bias, torch.Generator().manual_seed(0))
    assert timesteps.min() >= 0 and timesteps.max() == 999
    mean = (1 + bias) / (2 + bias)  # of the density (1 + b) x^b on [0, 1]
    assert timesteps.float().mean().item() / 1000 == pytest.approx(mean, abs=0.01)
    upper = (timesteps >= 500).float().mean().item()
    assert upper == pytest.approx(1 - 0.5 ** (1 + bias), abs=0.02)


@pytest.mark.parametrize("sampler", [DDIMScheduler, EulerDiscreteScheduler])
def test_a_schedule_that_ends_in_noise_alone_is_trained_to_its_end(batch, sampler):
    latents, noise = batch
    own = sampler(beta_schedule="scaled_linear", rescale_betas_zero_snr=True, prediction_type="v_prediction")
    schedule: Any = DDPMScheduler.from_config(own.config)  # as in the denoiser, whatever the sampler
    last = torch.full((3,), 999)
    assert torch.equal(schedule.add_noise(latents, noise, last), noise)
    assert torch.allclose(prediction_target(schedule, latents, noise, last), -latents)
    assert schedule.config["prediction_type"] == "v_prediction"
