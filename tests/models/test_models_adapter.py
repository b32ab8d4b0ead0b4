import dataclasses
import json
import shutil
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from tiny_models import build_tiny_base

from fourdistill.errors import InputError
from fourdistill.models.adapter import Adapter
from fourdistill.models.adapter_config import AdapterSettings
from fourdistill.models.attention import Conditioning
from fourdistill.models.base import encode_frames, encode_image_prompt, load_base
from fourdistill.models.conditions import Conditions
from fourdistill.models.image_prompt import resample
from fourdistill.models.text import PromptEncoder, encode_single_tokens


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(str(tiny_base))


@pytest.fixture
def adapter(base):
    settings = AdapterSettings(displacement_tokens=4)
    return Adapter.from_base(base, settings, torch.Generator().manual_seed(0))


def make_conditions(has_time, has_view, seed=0):
    generator, batch = torch.Generator().manual_seed(seed), len(has_time)
    return Conditions(
        image_embeds=torch.randn(batch, 17, 32, generator=generator),
        delta_time=torch.rand(batch, generator=generator) * 2 - 1,
        has_time=torch.tensor(has_time),
        view=torch.rand(batch, 4, generator=generator),
        has_view=torch.tensor(has_view),
    )


def perturb(adapter, seed=1):
    """Move every weight, so that what starts at zero is seen too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)


def test_single_tokens_in_one_pass_equal_passes_one_by_one(base):
    v_base = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0)) * 0.02
    together = encode_single_tokens(base.text_encoder, v_base)
    for i in range(2):
        for j in range(3):
            alone = base.text_encoder.encoder(inputs_embeds=v_base[i, j].reshape(1, 1, -1)).last_hidden_state
            assert torch.allclose(together[i, j], base.text_encoder.final_layer_norm(alone)[0, 0], atol=1e-6)


def test_prompt_encoder_equals_diffusers_and_encodes_each_prompt_once(base, tiny_base):
    encoder = PromptEncoder(base.tokenizer, base.text_encoder)
    passes = []
    hook = base.text_encoder.register_forward_hook(lambda *_: passes.append(1))
    embeds = encoder(["a man", "", "a man"])
    encoder(["", "a man"])
    hook.remove()
    assert len(passes) == 1
    stock: Any = StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None)
    expected, empty = stock.encode_prompt("a man", "cpu", 1, True)
    assert torch.allclose(embeds[[0, 2]], expected.expand(2, -1, -1), atol=1e-5)
    assert torch.allclose(embeds[[1]], empty, atol=1e-5)


def test_prompt_cache_stays_bounded(base):
    encoder = PromptEncoder(base.tokenizer, base.text_encoder, max_cached=2)
    first = encoder(["a", "b"])
    encoder(["c"])
    assert len(encoder.cache) <= 2
    assert torch.allclose(encoder(["a", "b"]), first, atol=1e-6)


def test_image_prompt_equals_diffusers_ip_adapter(base, adapter, tiny_base):
    stock = StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None)
    stock.load_ip_adapter(str(tiny_base), subfolder="ip_adapter", weight_name="ip-adapter-plus_tiny.safetensors")
    generator = torch.Generator().manual_seed(0)
    latents, text = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 16, 32, generator=generator)
    conditions = make_conditions([False, False], [False, False])
    with torch.no_grad():
        expected = stock.unet(
            latents,
            700,
            encoder_hidden_states=text,
            added_cond_kwargs={"image_embeds": [conditions.image_embeds[:, None]]},
        ).sample
        conditioning = adapter(base.text_encoder, text, conditions, torch.tensor([700, 700]))
        out = base.unet(latents, 700, encoder_hidden_states=conditioning).sample
        text_only = base.unet(latents, 700, encoder_hidden_states=Conditioning(text)).sample
    assert torch.allclose(out, expected, atol=1e-5)
    assert not torch.allclose(out, text_only, atol=1e-3)


def test_resample_without_mask_and_shift_is_the_projector(base):
    x = torch.randn(2, 17, 32, generator=torch.Generator().manual_seed(0))
    projector = base.ip_adapter.projector
    assert torch.allclose(resample(projector, x), projector(x), atol=1e-5)


def test_absent_displacement_leaves_the_image_tokens_alone(adapter):
    perturb(adapter)
    absent = make_conditions([True, False], [True, False])
    tokens = adapter.image_tokens(absent)
    plain = adapter.image_tokens(make_conditions([False, False], [False, False]))
    assert torch.allclose(tokens[1], plain[1], atol=1e-5)
    assert not torch.allclose(tokens[0], plain[0], atol=1e-3)
    moved = dataclasses.replace(absent, delta_time=absent.delta_time + 0.3)
    assert not torch.allclose(adapter.image_tokens(moved)[0], tokens[0], atol=1e-4)


def test_control_tokens_are_masked_where_absent(base, adapter):
    timesteps = torch.tensor([10, 990])
    control = adapter.control_tokens(base.text_encoder, make_conditions([True, False], [True, True]), timesteps)
    assert control.values.shape == (2, 7, 2, 32) and control.keys is None
    assert control.mask.tolist() == [[True, True], [False, True]]
    assert control.kinds == ("time", "view")
    control = adapter.control_tokens(base.text_encoder, make_conditions([True, True], [False, False]), timesteps)
    assert control.values.shape == (2, 7, 1, 32) and control.mask.all() and control.kinds == ("time",)
    assert adapter.control_tokens(base.text_encoder, make_conditions([False] * 2, [False] * 2), timesteps) is None


def test_control_tokens_follow_equation_1(base, adapter):
    conditions, timesteps = make_conditions([True], [False]), torch.tensor([400])
    v_base, v_bypass = adapter.time_mapper(conditions.delta_time[:, None], timesteps)
    clip_base = encode_single_tokens(base.text_encoder, v_base)
    for lambda_ in (0.0, 0.2, 5.0):
        tokens = adapter.control_tokens(base.text_encoder, conditions, timesteps, lambda_).values
        expected = clip_base + lambda_ * v_bypass / v_bypass.norm(dim=-1, keepdim=True)
        assert torch.allclose(tokens[:, :, 0], expected, atol=1e-5)


def test_keys_may_be_without_the_bypass_and_the_base_without_the_text_encoder(base):
    conditions, timesteps = make_conditions([True], [False]), torch.tensor([400])
    for clip_base in (True, False):
        settings = AdapterSettings(key_value_split=True, clip_base=clip_base)
        adapter = Adapter.from_base(base, settings, torch.Generator().manual_seed(0))
        v_base, _ = adapter.time_mapper(conditions.delta_time[:, None], timesteps)
        expected = encode_single_tokens(base.text_encoder, v_base) if clip_base else v_base
        control = adapter.control_tokens(base.text_encoder, conditions, timesteps)
        assert control is not None and control.keys is not None
        assert torch.allclose(control.keys[:, :, 0], expected, atol=1e-6)
        assert torch.allclose((control.values - control.keys).norm(dim=-1), torch.full((1, 7, 1), 0.2), atol=1e-4)
        text = PromptEncoder(base.tokenizer, base.text_encoder)(["a man"])
        split = adapter(base.text_encoder, text, conditions, timesteps)
        keys, values = split.contexts(3)
        assert torch.equal(keys[:, -1], control.keys[:, 3, 0]) and torch.equal(values[:, -1], control.values[:, 3, 0])
        assert torch.equal(keys[:, :-1], values[:, :-1])


def test_every_trained_parameter_is_in_one_group_and_gets_a_gradient(base, adapter):
    perturb(adapter)
    groups = adapter.parameter_groups()
    grouped = [id(p) for group in groups.values() for p in group]
    assert sorted(grouped) == sorted(id(p) for p in adapter.parameters())
    conditions = make_conditions([True, True], [True, False])
    text = PromptEncoder(base.tokenizer, base.text_encoder)(["a man", ""])
    conditioning = adapter(base.text_encoder, text, conditions, torch.tensor([300, 800]))
    base.unet(torch.randn(2, 4, 8, 8), 300, encoder_hidden_states=conditioning).sample.square().mean().backward()
    assert [name for name, p in adapter.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    assert all(p.grad is None for p in base.unet.parameters())
    assert all(p.grad is None for p in base.text_encoder.parameters())


def test_without_displacement_tokens_the_image_does_not_move(base):
    adapter = Adapter.from_base(base, AdapterSettings(displacement_tokens=0), torch.Generator())
    assert adapter.parameter_groups()["displacement_tokens"] == []
    moving, still = make_conditions([True], [True]), make_conditions([False], [False])
    assert torch.equal(adapter.image_tokens(moving), adapter.image_tokens(still))


def test_save_and_load_round_trip(base, adapter, tmp_path):
    perturb(adapter)
    adapter.save(tmp_path / "adapter", {"steps": 3})
    loaded = Adapter.load(tmp_path / "adapter", base)
    assert {p.name for p in (tmp_path / "adapter").iterdir()} == {"adapter.safetensors", "config.json"}
    assert loaded.config.training == {"steps": 3}
    assert loaded.config.settings == adapter.config.settings
    state = loaded.state_dict()
    assert state.keys() == adapter.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in adapter.state_dict().items())


def test_an_adapter_for_another_base_names_the_number(adapter, tmp_path):
    adapter.save(tmp_path / "adapter")
    other = load_base(str(build_tiny_base(tmp_path / "other", blocks=(32, 64, 64))))
    with pytest.raises(InputError, match=r"config\.json: layer_names: .*7 layers.*has 10"):
        Adapter.load(tmp_path / "adapter", other)
    wider = load_base(str(build_tiny_base(tmp_path / "wider", blocks=(32, 96))))
    with pytest.raises(InputError, match=r"layer_widths: .*64.*96"):
        Adapter.load(tmp_path / "adapter", wider)


def test_broken_adapter_files_are_one_clear_line(base, adapter, tmp_path):
    with pytest.raises(InputError, match=r"missing.config\.json: expected an adapter's configuration"):
        Adapter.load(tmp_path / "missing", base)
    adapter.save(tmp_path)
    (tmp_path / "adapter.safetensors").write_bytes(b"not weights")
    with pytest.raises(InputError, match=r"adapter\.safetensors: expected the weights"):
        Adapter.load(tmp_path, base)
    config = json.loads((tmp_path / "config.json").read_text())
    config["settings"]["bypass_norm"] = "big"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="bypass_norm: expected one of unit, base, got 'big'"):
        Adapter.load(tmp_path, base)


def test_broken_bases_are_one_clear_line(tiny_base, tmp_path):
    with pytest.raises(InputError, match=r"expected a model folder .* or a Hub id"):
        load_base(str(tmp_path / "missing"))
    with pytest.raises(InputError, match=r"model_index\.json"):
        load_base(str(tmp_path))
    copy = shutil.copytree(tiny_base, tmp_path / "copy")
    shutil.rmtree(copy / "ip_adapter")
    with pytest.raises(InputError, match="ip_adapter: expected one IP-Adapter Plus checkpoint"):
        load_base(str(copy))
    assert load_base(str(copy), with_ip_adapter=False).ip_adapter is None
    (copy / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="Stable Diffusion layout"):
        load_base(str(copy), with_ip_adapter=False)


def test_ip_adapter_may_lie_elsewhere(tiny_base, tmp_path):
    checkpoint = shutil.copy(next((tiny_base / "ip_adapter").iterdir()), tmp_path / "other.safetensors")
    copy = shutil.copytree(tiny_base, tmp_path / "copy", ignore=shutil.ignore_patterns("ip_adapter"))
    assert load_base(str(copy), str(checkpoint)).ip_adapter is not None
    for bad in (tmp_path / "missing.safetensors", tmp_path / "weights.bin"):
        with pytest.raises(InputError, match=bad.name):
            load_base(str(copy), str(bad))


def test_encode_frames_is_what_diffusers_gives(base, tiny_base):
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = [Image.fromarray(p.numpy()) for p in pixels]
    features = encode_frames(base, images)
    assert features["latents"].shape == (2, 4, 8, 8) and features["latents"].dtype == "float16"
    assert features["image_embeds"].shape == (2, 17, 32)
    scaled = torch.stack([p.permute(2, 0, 1) / 127.5 - 1 for p in pixels])
    with torch.no_grad():
        expected = base.vae.encode(scaled).latent_dist.mode() * base.vae.config.scaling_factor
    assert torch.allclose(torch.from_numpy(features["latents"]).float(), expected, atol=2e-3)
    stock = StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None)
    embeds, _ = stock.encode_image(images[0], "cpu", 1, output_hidden_states=True)
    ours = encode_image_prompt(base.image_encoder, base.feature_extractor, images)
    assert torch.allclose(ours[[0]], embeds, atol=1e-5)
