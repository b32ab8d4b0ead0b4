"""The source prompt: a second IP-Adapter that shows the U-Net frame j itself, beside the words."""

import dataclasses
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
from stage_settings import adapter_settings
from tiny_adapters import start_tiny_adapter, tiny_prior
from tiny_displacements import some_displacements
from tiny_models import add_source_adapter, build_tiny_base, random_original_ip_adapter

from fourdistill.errors import InputError
from fourdistill.models.adapter import Adapter
from fourdistill.models.base.model import load_base
from fourdistill.models.conditions import Conditions

TIMESTEPS = torch.tensor([300, 800])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = build_tiny_base(tmp_path_factory.mktemp("base") / "tiny")
    add_source_adapter(folder)
    return folder


@pytest.fixture(scope="module")
def base(folder):
    return load_base(str(folder), with_source_adapter=True)


@pytest.fixture
def adapter(base):
    return start_tiny_adapter(base, source_prompt=True)


@pytest.fixture
def conditions():
    generator = torch.Generator().manual_seed(0)
    embeds = torch.randn(2, 17, 32, generator=generator)
    return Conditions(embeds, torch.tensor([True, True]), some_displacements([True, True], [False, True], generator))


@pytest.fixture
def noisy():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 16, 32, generator=generator)


@torch.no_grad()
def predict(base, adapter, noisy, conditions, **arguments):
    latents, text = noisy
    conditioning = adapter(base.text_encoder, text, conditions, TIMESTEPS, **arguments)
    return base.unet(latents, TIMESTEPS, encoder_hidden_states=conditioning).sample


@torch.no_grad()
def test_both_prompts_are_two_ip_adapters_of_stock_diffusers(folder, base, adapter, noisy, conditions):
    stock: Any = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    names = ["ip-adapter-plus_tiny.safetensors", "ip-adapter-plus_source.safetensors"]
    stock.load_ip_adapter(str(folder), subfolder=["ip_adapter", "source_adapter"], weight_name=names)
    stock.set_ip_adapter_scale([1.0, 0.5])
    latents, text = noisy
    shown = {"image_embeds": [tiny_prior().displace(conditions)[:, None], conditions.image_embeds[:, None]]}
    expected = stock.unet(latents, TIMESTEPS, encoder_hidden_states=text, added_cond_kwargs=shown).sample
    found = predict(base, adapter, noisy, conditions, carrier="image_prompt", source_scale=0.5)
    assert torch.allclose(found, expected, atol=1e-5)


def test_it_shows_the_image_as_it_is_beside_the_words(base, adapter, noisy, conditions):
    without = start_tiny_adapter(base)
    without.mapper.load_state_dict(adapter.mapper.state_dict())
    plain = predict(base, without, noisy, conditions)
    assert not torch.allclose(predict(base, adapter, noisy, conditions), plain, atol=1e-3)
    assert torch.allclose(predict(base, adapter, noisy, conditions, source_scale=0.0), plain, atol=1e-6)
    scales = torch.tensor([0.0, 1.0])
    mixed = predict(base, adapter, noisy, conditions, source_scale=scales)
    assert torch.allclose(mixed[0], plain[0], atol=1e-5)
    assert torch.allclose(mixed[1], predict(base, adapter, noisy, conditions)[1], atol=1e-5)


def test_a_sample_without_an_image_is_shown_none(base, adapter, noisy, conditions):
    blind = dataclasses.replace(conditions, has_image=torch.tensor([False, True]))
    found = predict(base, adapter, noisy, blind)
    assert torch.allclose(found[0], predict(base, start_tiny_adapter(base), noisy, blind)[0], atol=1e-5)
    assert torch.allclose(found[1], predict(base, adapter, noisy, conditions)[1], atol=1e-5)


def test_it_is_frozen_saved_and_loaded(base, adapter, folder, tmp_path):
    assert not any(parameter.requires_grad for parameter in adapter.source_prompt.parameters())
    with torch.no_grad():
        adapter.source_prompt.to_k_ip[0].weight += 0.1
    adapter.save(tmp_path)
    loaded = Adapter.load(tmp_path, load_base(str(folder), with_ip_adapter=False))
    state = adapter.source_prompt.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in loaded.source_prompt.state_dict().items())
    assert loaded.config.settings.source_prompt


def test_an_adapter_is_given_one_only_if_it_asks(base, folder):
    assert start_tiny_adapter(base).source_prompt is None
    assert load_base(str(folder)).source_adapter is None
    mine = start_tiny_adapter(base, source_prompt=True).source_prompt.to_v_ip
    pairs = zip(mine, base.source_adapter.to_v_ip, strict=True)
    assert all(torch.equal(one.weight, other.weight) for one, other in pairs)


def test_what_cannot_be_shown_is_told(base, folder, tiny_base, tmp_path):
    with pytest.raises(InputError, match=r"source_adapter: expected one IP-Adapter checkpoint, found 0 .safetensors"):
        load_base(str(tiny_base), with_source_adapter=True)
    with pytest.raises(InputError, match=r"source_prompt: expected .* loaded with its source adapter, or false"):
        start_tiny_adapter(load_base(str(folder)), source_prompt=True)
    with pytest.raises(InputError, match=r"source_prompt: expected false without a prior: the image prompt shows fram"):
        start_tiny_adapter(base, source_prompt=True, mapper_input="displacement")
    original = tmp_path / "original.safetensors"
    save_file(random_original_ip_adapter(base.unet), original)
    mixed = load_base(str(folder), source_adapter=str(original), with_source_adapter=True)
    with pytest.raises(InputError, match=r"source_prompt: expected an IP-Adapter of the same kind as the first"):
        Adapter.from_base(mixed, adapter_settings(source_prompt=True), torch.Generator(), tiny_prior())
