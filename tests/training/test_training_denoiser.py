"""The losses of a step: relative to the U-Net's output for the image prompt (distill) or to the truth (ddpm)."""

import pytest
import torch
from tiny_adapters import start_tiny_adapter
from tiny_displacements import some_displacements
from torch.nn import functional as F

from fourdistill.errors import InputError
from fourdistill.models.base.model import encode_null_image, load_base
from fourdistill.models.conditions import Conditions
from fourdistill.training.mappers.denoiser import Denoiser
from fourdistill.training.mappers.targets import prediction_target

BATCH = 4
CAPTIONS = ["a man", "a woman in a blue top", "", "a man"]


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(str(tiny_base))


@pytest.fixture
def adapter(base):
    return start_tiny_adapter(base)


@pytest.fixture(scope="module")
def step():
    """Latents, noise, timesteps, conditions and captions."""
    generator = torch.Generator().manual_seed(0)
    conditions = Conditions(
        image_embeds=torch.randn(BATCH, 17, 32, generator=generator),
        has_image=torch.ones(BATCH, dtype=torch.bool),
        displacement=some_displacements([True, False, True, False], [True, True, False, False], generator),
    )
    latents, noise = torch.randn(2, BATCH, 4, 8, 8, generator=generator)
    return latents, noise, torch.tensor([100, 400, 700, 950]), conditions, CAPTIONS


def without_images(step, base):
    latents, noise, timesteps, conditions, captions = step
    every = torch.ones(BATCH, dtype=torch.bool)
    return latents, noise, timesteps, conditions.without_image(every, encode_null_image(base.image_encoder)), captions


@torch.no_grad()
def test_both_losses_are_the_errors_that_they_name(base, adapter, step):
    latents, noise, timesteps, conditions, captions = step
    denoiser = Denoiser(base, adapter)
    noisy = denoiser.schedule.add_noise(latents, noise, timesteps)
    text = denoiser.encode_prompts(captions).tokens
    said, shown = (
        base.unet(noisy, timesteps, adapter(base.text_encoder, text, conditions, timesteps, carrier=carrier)).sample
        for carrier in ("words", "image_prompt")
    )
    truth = prediction_target(denoiser.schedule, latents, noise, timesteps)
    for target, losses in (
        (shown, denoiser.losses(*step)),
        (truth, denoiser.losses(*step, loss="ddpm")),
        (truth, Denoiser(base, adapter, "ddpm").losses(*step)),
    ):
        expected = F.mse_loss(said, target, reduction="none").mean(dim=(1, 2, 3))
        assert losses.shape == (BATCH,) and torch.allclose(losses, expected, rtol=1e-4)
    assert (denoiser.losses(*step) > 1e-3).all()


@torch.no_grad()
def test_nothing_is_to_be_learnt_where_words_and_image_prompt_make_the_same_of_it(base, adapter, step):
    for layer in adapter.image_prompt.to_v_ip:
        layer.weight.zero_()  # the image prompt has no effect
    denoiser = Denoiser(base, adapter)
    assert denoiser.losses(*without_images(step, base)).max() < 1e-10  # there are no words either
    assert denoiser.losses(*step).min() > 1e-3


def test_where_there_is_no_image_nothing_is_learnt(base, adapter, step):
    Denoiser(base, adapter).losses(*without_images(step, base)).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in adapter.mapper.parameters())


@torch.no_grad()
def test_lambda_may_be_one_a_sample(base, adapter, step):
    denoiser = Denoiser(base, adapter)
    few, many = denoiser.losses(*step, lambda_=0.5), denoiser.losses(*step, lambda_=5.0)
    mixed = denoiser.losses(*step, lambda_=torch.tensor([0.5, 5.0, 0.5, 5.0]))
    assert torch.allclose(mixed, torch.stack([few[0], many[1], few[2], many[3]]), rtol=1e-4)
    assert not torch.allclose(few, many, rtol=1e-2)


@pytest.mark.parametrize("num_words", [None, 2])
def test_a_few_steps_bring_the_words_nearer_to_what_is_shown(base, step, num_words):
    adapter = start_tiny_adapter(base, num_words=num_words)
    before = {name: value.clone() for name, value in adapter.state_dict().items()}
    denoiser = Denoiser(base, adapter)
    optimizer = torch.optim.AdamW([p for p in adapter.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(15):
        loss = denoiser.losses(*step).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]
    changed = {name for name, value in adapter.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("mapper.")}


def test_what_no_image_can_show_is_not_distilled(base):
    adapter = start_tiny_adapter(base, mapper_input="displacement")
    with pytest.raises(InputError, match=r"^train\.loss\.kind: expected ddpm without a prior"):
        Denoiser(base, adapter)
    assert Denoiser(base, adapter, "ddpm").loss == "ddpm"
