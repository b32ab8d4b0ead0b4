"""SDXL: what neutral conditions draw is what stock diffusers draws; training, saving, words through both encoders."""

import json
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from tiny_adapters import build_tiny_adapter, start_tiny_adapter, tiny_picture
from tiny_displacements import some_displacements
from tiny_models import PLUS_NAME

from fourdistill import FourDistillPipeline
from fourdistill.errors import InputError
from fourdistill.inference.prompting import TEXT_GUIDANCE
from fourdistill.models.adapter import Adapter
from fourdistill.models.base.model import load_base
from fourdistill.models.base.text import PromptEncoder, text_encoders_of
from fourdistill.models.conditions import Conditions
from fourdistill.models.settings import MAPPER_INPUTS
from fourdistill.models.words import encode_single_tokens
from fourdistill.training.mappers.denoiser import Denoiser
from fourdistill.training.mappers.targets import prediction_target

STEPS: dict[str, Any] = {"num_inference_steps": 3, "output_type": "latent"}


@pytest.fixture(scope="module")
def base(tiny_xl):
    return load_base(str(tiny_xl))


@pytest.fixture(scope="module")
def adapter_folder(tiny_xl, tmp_path_factory):
    return build_tiny_adapter(tiny_xl, tmp_path_factory.mktemp("xl_adapter"))


@pytest.fixture
def pipe(tiny_xl, adapter_folder):
    return quiet(FourDistillPipeline.from_pretrained(tiny_xl, adapter_folder))


@pytest.fixture
def stock(tiny_xl):
    return quiet(StableDiffusionXLPipeline.from_pretrained(tiny_xl, add_watermarker=False))


def quiet(pipe) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def seeded():
    return torch.Generator().manual_seed(0)


def latents(pipe, **given) -> Any:
    return pipe(**STEPS, seed=0, **{"prompt": "a man", "prompt_strength": 0, **given}).images


@pytest.mark.parametrize(
    ("given", "guidance_scale"),
    [({}, 1.0), ({"guidance_scale": 3.0}, 3.0), ({"prompt_strength": 1}, TEXT_GUIDANCE), ({"time": 0.3}, 1.0)],
)
def test_without_an_image_it_is_diffusers_pipeline(pipe, stock, given, guidance_scale):
    expected = stock("a man", guidance_scale=guidance_scale, generator=seeded(), **STEPS).images
    assert torch.allclose(latents(pipe, **given), expected, atol=1e-5)


def test_an_unwanted_prompt_is_encoded_as_diffusers_does(pipe, stock):
    given: dict[str, Any] = {"negative_prompt": "a woman", "guidance_scale": 3.0}
    expected = stock("a man", generator=seeded(), **given, **STEPS).images
    assert torch.allclose(latents(pipe, **given), expected, atol=1e-5)


def test_no_prompt_is_what_the_base_has_learnt_as_none(pipe, stock):
    embeds = stock.encode_prompt("a man", device="cpu")[1::2]  # all zeros
    expected = stock(
        prompt_embeds=embeds[0], pooled_prompt_embeds=embeds[1], guidance_scale=1, generator=seeded(), **STEPS
    ).images
    assert not embeds[0].any() and torch.allclose(latents(pipe, prompt=None), expected, atol=1e-5)


def test_the_image_prompt_shows_what_diffusers_shows(tiny_xl, pipe, base, stock):
    pipe.adapter.image_prompt.load_state_dict(start_tiny_adapter(base).image_prompt.state_dict())
    stock.load_ip_adapter(str(tiny_xl), subfolder="ip_adapter", weight_name=PLUS_NAME)
    expected = stock("a man", ip_adapter_image=tiny_picture(), guidance_scale=1, generator=seeded(), **STEPS).images
    shown = latents(pipe, image=tiny_picture(), carrier="image_prompt")
    assert torch.allclose(shown, expected, atol=1e-5)
    assert not torch.allclose(shown, latents(pipe), atol=1e-2)


def test_the_picture_is_what_diffusers_decodes(pipe, stock):
    pixels = stock("a man", guidance_scale=1, generator=seeded(), num_inference_steps=3, output_type="pt").images
    own = pipe(prompt="a man", prompt_strength=0, seed=0, num_inference_steps=3, output_type="pt").images
    assert torch.allclose(own, pixels, atol=1e-5)


@pytest.mark.parametrize("mapper_input", MAPPER_INPUTS)
def test_a_saved_pipeline_is_the_same_when_loaded(tiny_xl, tmp_path, mapper_input):
    folder = build_tiny_adapter(tiny_xl, tmp_path / "adapter", mapper_input=mapper_input)
    pipe = quiet(FourDistillPipeline.from_pretrained(tiny_xl, folder))
    given = {"image": tiny_picture(), "time": 0.3, "azimuth": 20, "guidance_scale": 2.0}
    expected = latents(pipe, **given)
    assert not torch.allclose(expected, latents(pipe, **(given | {"time": -0.3})), atol=1e-3)
    pipe.save_pretrained(tmp_path / "saved")
    loaded = quiet(FourDistillPipeline.from_pretrained(tmp_path / "saved"))
    assert torch.equal(latents(loaded, **given), expected)
    index = json.loads((tmp_path / "saved/model_index.json").read_text())
    assert index["force_zeros_for_empty_prompt"] and index["text_encoder_2"][1] == "CLIPTextModelWithProjection"
    plain = quiet(StableDiffusionXLPipeline.from_pretrained(tmp_path / "saved", add_watermarker=False))
    assert plain("a man", **STEPS).images is not None


def test_offloading_brings_both_text_encoders_in(pipe):
    given = {"image": tiny_picture(), "time": 0.3, "guidance_scale": 2.0}
    expected = latents(pipe, **given)
    pipe.enable_model_cpu_offload(device="cpu")
    assert torch.equal(latents(pipe, **given), expected)


def test_words_go_through_both_encoders_as_prompts_do(base):
    v_base = 0.02 * torch.randn(5, 80, generator=seeded())
    said = encode_single_tokens(text_encoders_of(base), v_base)
    for encoder, width, part in (
        (base.text_encoder, 32, slice(0, 32)),
        (base.text_encoder_2.text_model, 48, slice(32, 80)),
    ):
        for i in range(len(v_base)):
            alone = v_base[i, part].reshape(1, 1, width)
            expected = encoder.encoder.layers[0](alone, None)  # the last layer but one of two
            assert torch.allclose(said[i, part], expected[0, 0], atol=1e-6)


def test_prompts_are_encoded_as_diffusers_does_and_once(base, stock):
    encode = PromptEncoder.of(base, base.zero_empty_prompt)
    passes = []
    hook = base.text_encoder_2.register_forward_hook(lambda *_: passes.append(1))
    prompts = encode(["a man", "", "a man"])
    encode(["", "a man"])
    hook.remove()
    assert len(passes) == 1 and prompts.pooled is not None
    tokens, none, pooled, none_pooled = stock.encode_prompt("a man", device="cpu")
    assert torch.allclose(prompts.tokens, torch.cat([tokens, none, tokens]), atol=1e-6)
    assert torch.allclose(prompts.pooled, torch.cat([pooled, none_pooled, pooled]), atol=1e-6)
    added: Any = prompts.added(256, 128)
    expected = stock._get_add_time_ids((256, 128), (0, 0), (256, 128), torch.float32, 40)
    assert torch.equal(added["time_ids"], expected.expand(3, -1)) and added["text_embeds"] is prompts.pooled


@torch.no_grad()
def test_the_losses_are_the_errors_of_diffusers_unet(tiny_xl, base, stock):
    adapter = start_tiny_adapter(base)
    generator = seeded()
    clean, noise = torch.randn(2, 2, 4, 8, 8, generator=generator)
    timesteps, captions = torch.tensor([100, 900]), ["a man", ""]
    conditions = Conditions(
        torch.randn(2, 17, 32, generator=generator),
        torch.zeros(2, dtype=torch.bool),  # no image, no words
        some_displacements([True, False], [True, False], generator),
    )
    denoiser = Denoiser(base, adapter, "ddpm")
    tokens, none, pooled, none_pooled = stock.encode_prompt("a man", device="cpu")
    said = stock.unet(
        denoiser.schedule.add_noise(clean, noise, timesteps),
        timesteps,
        encoder_hidden_states=torch.cat([tokens, none]),
        added_cond_kwargs={
            "text_embeds": torch.cat([pooled, none_pooled]),
            "time_ids": torch.tensor([[32.0, 32, 0, 0, 32, 32]] * 2),
        },
    ).sample
    truth = prediction_target(denoiser.schedule, clean, noise, timesteps)
    expected = (said - truth).square().mean(dim=(1, 2, 3))
    assert torch.allclose(denoiser.losses(clean, noise, timesteps, conditions, captions), expected, rtol=1e-4)


def test_a_few_steps_bring_the_words_nearer_to_what_is_shown(base):
    adapter, generator = start_tiny_adapter(base), seeded()
    clean, noise = torch.randn(2, 4, 4, 8, 8, generator=generator)
    conditions = Conditions(
        torch.randn(4, 17, 32, generator=generator),
        torch.ones(4, dtype=torch.bool),
        some_displacements([True, False] * 2, [True, True, False, False], generator),
    )
    denoiser = Denoiser(base, adapter)
    optimizer = torch.optim.AdamW([p for p in adapter.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(10):
        loss = denoiser.losses(clean, noise, torch.tensor([100, 400, 700, 950]), conditions, ["a man"] * 4).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    for part in base.models():
        assert all(parameter.grad is None for parameter in part.parameters())


def test_an_adapter_of_another_base_is_refused(tiny_base, adapter_folder):
    with pytest.raises(InputError, match=r"layer_names: the adapter was trained on a base .* with 8 layers, but"):
        Adapter.load(adapter_folder, load_base(str(tiny_base)))
