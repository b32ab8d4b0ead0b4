from typing import Any

import torch

from fourdistill.models.adapter import Adapter
from fourdistill.models.adapter_config import AdapterSettings
from fourdistill.models.attention import Conditioning
from fourdistill.models.base import load_base
from fourdistill.models.lora import inject_lora, remove_lora


def predict(base):
    generator = torch.Generator().manual_seed(0)
    latents, text = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 5, 32, generator=generator)
    return base.unet(latents, 400, encoder_hidden_states=Conditioning(text)).sample


def perturb(updates: Any):
    with torch.no_grad():
        for update in updates.values():
            update["up"].weight += 0.1


def test_updates_start_as_nothing_act_and_can_be_taken_out(tiny_base):
    base = load_base(str(tiny_base))
    names, plain = set(base.unet.state_dict()), predict(base)
    updates = inject_lora(base.unet, 2, torch.Generator().manual_seed(0))
    assert len(updates) == 2 * 4 * 7  # self- and cross-attention, four projections each, seven layers
    assert torch.equal(predict(base), plain)
    perturb(updates)
    assert not torch.allclose(predict(base), plain, atol=1e-4)
    remove_lora(base.unet)
    assert torch.equal(predict(base), plain)
    assert set(base.unet.state_dict()) == names


def test_the_generator_decides_the_updates(tiny_base):
    base = load_base(str(tiny_base))
    draws = [inject_lora(base.unet, 2, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    first = [next(iter(draw.parameters())) for draw in draws]
    assert torch.equal(first[0], first[1]) and not torch.equal(first[0], first[2])


def test_an_adapter_saves_its_updates_and_puts_them_into_another_unet(tiny_base, tmp_path):
    base = load_base(str(tiny_base))
    adapter = Adapter.from_base(base, AdapterSettings(lora_rank=2), torch.Generator().manual_seed(0))
    perturb(adapter.lora)
    expected = predict(base)
    adapter.save(tmp_path)
    fresh = load_base(str(tiny_base))
    before = predict(fresh)
    loaded = Adapter.load(tmp_path, fresh)
    assert torch.allclose(predict(fresh), expected, atol=1e-6)
    assert not torch.allclose(predict(fresh), before, atol=1e-4)
    assert loaded.config.settings.lora_rank == 2
    assert not any(parameter.requires_grad for parameter in fresh.unet.parameters())


def test_an_adapter_without_updates_rids_the_unet_of_those_of_another(tiny_base, tmp_path):
    base = load_base(str(tiny_base))
    plain, before = Adapter.from_base(base, AdapterSettings(), torch.Generator()), predict(base)
    plain.save(tmp_path)
    perturb(Adapter.from_base(base, AdapterSettings(lora_rank=2), torch.Generator().manual_seed(0)).lora)
    assert not torch.allclose(predict(base), before, atol=1e-4)
    Adapter.load(tmp_path, base)
    assert torch.equal(predict(base), before)


def test_only_the_updates_learn(tiny_base):
    base = load_base(str(tiny_base))
    adapter = Adapter.from_base(base, AdapterSettings(lora_rank=2), torch.Generator().manual_seed(0))
    perturb(adapter.lora)
    assert adapter.parameter_groups()["lora"] == list(adapter.lora.parameters())
    predict(base).square().mean().backward()
    learning = {name for name, parameter in base.unet.named_parameters() if parameter.grad is not None}
    assert learning and all("lora_" in name for name in learning)
