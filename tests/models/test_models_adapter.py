import copy
import dataclasses
import json
import shutil
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from stage_settings import adapter_settings
from tiny_adapters import start_tiny_adapter, tiny_prior
from tiny_displacements import some_displacements
from tiny_models import build_tiny_base

from fourdistill.errors import InputError
from fourdistill.features.encode import encode_images
from fourdistill.models.adapter import Adapter
from fourdistill.models.attention import Conditioning
from fourdistill.models.base.model import encode_image_prompt, load_base
from fourdistill.models.base.text import PromptEncoder
from fourdistill.models.conditions import Conditions
from fourdistill.models.prior import DisplacementPrior
from fourdistill.models.words import clip_length, encode_single_tokens, say

TIMESTEPS = torch.tensor([300, 800])


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(str(tiny_base))


@pytest.fixture
def adapter(base):
    return start_tiny_adapter(base)


def make_conditions(has_time, has_view, has_image=(True, True), seed=0):
    generator, batch = torch.Generator().manual_seed(seed), len(has_time)
    return Conditions(
        image_embeds=torch.randn(batch, 17, 32, generator=generator),
        has_image=torch.tensor(has_image[:batch]),
        displacement=some_displacements(has_time, has_view, generator),
    )


def perturb(adapter, seed=1):
    """Perturb every weight, so that zero-initialised weights have an effect."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)


def noisy(batch=2):
    """Latents and a prompt's embeddings."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 4, 8, 8, generator=generator), torch.randn(batch, 16, 32, generator=generator)


def test_prompt_encoder_equals_diffusers_and_encodes_each_prompt_once(base, tiny_base):
    encoder = PromptEncoder.of(base)
    passes = []
    hook = base.text_encoder.register_forward_hook(lambda *_: passes.append(1))
    embeds = encoder(["a man", "", "a man"]).tokens
    encoder(["", "a man"])
    hook.remove()
    assert len(passes) == 1
    stock: Any = StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None)
    expected, empty = stock.encode_prompt("a man", "cpu", 1, True)
    assert torch.allclose(embeds[[0, 2]], expected.expand(2, -1, -1), atol=1e-5)
    assert torch.allclose(embeds[[1]], empty, atol=1e-5)


def test_prompt_cache_stays_bounded(base):
    encoder = PromptEncoder([base.tokenizer], base.text_encoder, max_cached=2)
    first = encoder(["a", "b"]).tokens
    encoder(["c"])
    assert len(encoder.cache) <= 2
    assert torch.allclose(encoder(["a", "b"]).tokens, first, atol=1e-6)


@torch.no_grad()
def test_without_an_image_it_is_plain_text_to_image(base, adapter, tiny_base):
    perturb(adapter)
    stock: Any = StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None).unet
    latents, text = noisy()
    conditions = make_conditions([True, True], [True, False], has_image=(False, True))
    conditioning = adapter(base.text_encoder, text, conditions, TIMESTEPS)
    assert conditioning.words_seen is not None and conditioning.words_seen.tolist() == [False, True]
    assert conditioning.image_keys == () and conditioning.image_values == ()
    out = base.unet(latents, TIMESTEPS, encoder_hidden_states=conditioning).sample
    plain = stock(latents, TIMESTEPS, encoder_hidden_states=text).sample
    assert torch.allclose(out[0], plain[0], atol=1e-5)
    assert not torch.allclose(out[1], plain[1], atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("displaced", [False, True])
def test_carried_by_the_image_prompt_it_is_the_base_s_ip_adapter_on_what_is_expected(
    base, adapter, tiny_base, displaced
):
    stock: Any = StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None)
    stock.load_ip_adapter(str(tiny_base), subfolder="ip_adapter", weight_name="ip-adapter-plus_tiny.safetensors")
    latents, text = noisy()
    conditions = make_conditions([displaced, displaced], [False, displaced])

    def stock_sees(image_embeds):
        shown = {"image_embeds": [image_embeds[:, None]]}
        return stock.unet(latents, TIMESTEPS, encoder_hidden_states=text, added_cond_kwargs=shown).sample

    conditioning = adapter(base.text_encoder, text, conditions, TIMESTEPS, carrier="image_prompt")
    assert conditioning.words is None
    out = base.unet(latents, TIMESTEPS, encoder_hidden_states=conditioning).sample
    expected = tiny_prior().displace(conditions) if displaced else conditions.image_embeds
    assert torch.allclose(out, stock_sees(expected), atol=1e-5)
    assert torch.allclose(out, stock_sees(conditions.image_embeds), atol=1e-3) != displaced
    text_only = base.unet(latents, TIMESTEPS, encoder_hidden_states=Conditioning(text)).sample
    assert not torch.allclose(out, text_only, atol=1e-3)


@torch.no_grad()
def test_what_is_expected_is_what_the_prior_says_of_images_that_were_moved(adapter):
    conditions = make_conditions([True, False, True, False], [False, True, True, False], (True, True, False, True))
    found, displaced = adapter.expect(conditions), adapter.prior.displace(conditions)
    given = conditions.image_embeds
    assert torch.equal(found[:2], displaced[:2]) and not torch.allclose(found[:2], given[:2], atol=0.1)
    assert torch.equal(found[2:], given[2:])  # the first has no image, the second no displacement
    still = make_conditions([False], [False])
    two = dataclasses.replace(still, others=(make_conditions([False], [False], seed=1),))
    assert torch.equal(adapter.expect(still), still.image_embeds)
    assert torch.equal(adapter.expect(two), adapter.prior.displace(two))
    zero = make_conditions([True, True], [True, True])
    nowhere = zero.displacement.map(lambda values: values if values.dtype == torch.bool else torch.zeros_like(values))
    zero = dataclasses.replace(zero, displacement=nowhere)
    assert torch.equal(adapter.expect(zero), zero.image_embeds)  # as without a displacement


@torch.no_grad()
def test_without_a_prior_an_image_stays_as_it_is_and_one_is_all(base):
    adapter = start_tiny_adapter(base, mapper_input="displacement")
    assert adapter.prior is None
    moved = make_conditions([True, True], [True, False])
    assert torch.equal(adapter.expect(moved), moved.image_embeds)
    with pytest.raises(InputError, match=r"^others: expected no further condition images"):
        adapter.expect(dataclasses.replace(moved, others=(moved,)))


@torch.no_grad()
def test_words_tell_what_is_expected_by_the_adapters_lambda_or_another(base, adapter):
    perturb(adapter)
    _, text = noisy()
    conditions = make_conditions([True, True], [True, False])
    spoken = adapter.mapper(adapter.image_prompt(adapter.expect(conditions)))
    for given, lambda_ in ((None, 3.0), (0.5, 0.5), (torch.tensor([0.5, 2.0]), torch.tensor([0.5, 2.0]))):
        conditioning = adapter(base.text_encoder, text, conditions, TIMESTEPS, given)
        words = say(base.text_encoder, spoken, lambda_)
        assert conditioning.words is not None and conditioning.words_seen is None
        assert conditioning.words.keys.shape == (2, 7, 4, 32)
        assert torch.equal(conditioning.words.keys, words.keys)
        assert torch.equal(conditioning.words.values, words.values)
        assert torch.equal(conditioning.text, text)
    assert not adapter.varies_with_timesteps
    later = adapter(base.text_encoder, text, conditions, TIMESTEPS - 100)
    assert torch.equal(later.words.keys, say(base.text_encoder, spoken, 3.0).keys)


@torch.no_grad()
def test_displacements_are_heard_through_the_words(base, adapter):
    _, text = noisy()
    conditions = make_conditions([True, True], [False, True])
    here = adapter(base.text_encoder, text, conditions, TIMESTEPS).words
    moved = conditions.displacement
    for change, expected in (
        ({"displacement": dataclasses.replace(moved, time=moved.time + 0.3)}, [True, True]),
        ({"displacement": dataclasses.replace(moved, elevation=moved.elevation + 0.3)}, [False, True]),
        ({"image_embeds": conditions.image_embeds.flip(0)}, [True, True]),
    ):
        there = adapter(base.text_encoder, text, dataclasses.replace(conditions, **change), TIMESTEPS).words
        heard = [not torch.allclose(there.values[i], here.values[i], atol=1e-3) for i in range(2)]
        assert heard == expected, change


@torch.no_grad()
def test_the_original_s_words_tell_the_displacement_and_the_image_prompt_shows_frame_j(base, tiny_base):
    adapter = start_tiny_adapter(base, mapper_input="displacement", num_words=1, lambda_=0.5)
    _, text = noisy(3)
    conditions = make_conditions([True, False, False], [False, True, False], (True, True, True))
    timesteps = torch.tensor([300, 800, 500])
    conditioning = adapter(base.text_encoder, text, conditions, timesteps)
    assert conditioning.words_seen.tolist() == [True, True, False]
    words = say(base.text_encoder, adapter.mapper(conditions, timesteps), 0.5)
    assert words.keys.shape == (3, 7, 1, 32) and torch.equal(conditioning.words.keys, words.keys)
    keys, values = adapter.image_prompt.keys_values(adapter.image_prompt(conditions.image_embeds))
    assert all(torch.equal(*pair) for pair in zip(conditioning.image_keys, keys, strict=True))
    assert all(torch.equal(*pair) for pair in zip(conditioning.image_values, values, strict=True))
    assert adapter.varies_with_timesteps
    later = adapter(base.text_encoder, text, conditions, timesteps - 100)
    assert not torch.allclose(later.words.keys[0], conditioning.words.keys[0], atol=1e-4)


@torch.no_grad()
def test_every_layer_begins_with_words_that_it_draws_as_its_image_prompt(base, adapter):
    tokens = adapter.image_prompt(make_conditions([False, False], [False, False]).image_embeds)
    spoken = adapter.mapper(tokens)
    square = 0
    for layer, name in enumerate(adapter.config.base_facts.layer_names):
        text: Any = base.unet.get_submodule(name)
        if text.to_k.out_features > 32:  # a word of width 32 cannot reach all keys of such a layer
            continue
        square += 1
        assert torch.allclose(text.to_k(spoken.key_bypass[:, layer]), base.ip_adapter.to_k_ip[layer](tokens), atol=1e-3)
        values = base.ip_adapter.to_v_ip[layer](tokens)
        assert torch.allclose(text.to_v(spoken.value_bypass[:, layer]), values, atol=1e-3)
    assert square == 3


@torch.no_grad()
def test_the_last_norm_of_the_text_encoder_says_how_long_its_words_are(base):
    text_encoder = copy.deepcopy(base.text_encoder)
    text_encoder.final_layer_norm.weight.copy_(torch.linspace(0.1, 3, 32))
    v_base = 0.02 * torch.randn(500, 32, generator=torch.Generator().manual_seed(0))
    lengths = encode_single_tokens(text_encoder, v_base).norm(dim=-1)
    assert clip_length(text_encoder, v_base) == pytest.approx(lengths.square().mean().sqrt().item(), rel=0.1)


@pytest.mark.parametrize("settings", [{}, {"num_words": 2}, {"rank": 2}, {"mapper_input": "displacement"}])
def test_the_mapper_alone_is_trained_and_every_weight_of_it(base, settings):
    adapter = start_tiny_adapter(base, **settings)
    perturb(adapter.mapper)  # a map of low rank begins with zeros, which stop the gradient
    trained = {name for name, parameter in adapter.named_parameters() if parameter.requires_grad}
    assert trained == {f"mapper.{name}" for name, _ in adapter.mapper.named_parameters()}
    parts = {name.split(".")[0] for name, parameter in adapter.named_parameters() if not parameter.requires_grad}
    assert parts == ({"image_prompt"} if adapter.prior is None else {"image_prompt", "prior"})
    latents, _ = noisy()
    text = PromptEncoder.of(base)(["a man", ""]).tokens
    conditioning = adapter(base.text_encoder, text, make_conditions([True, True], [True, False]), TIMESTEPS)
    base.unet(latents, TIMESTEPS, encoder_hidden_states=conditioning).sample.square().mean().backward()
    assert {name for name, p in adapter.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0} == trained
    frozen = (*base.unet.parameters(), *base.text_encoder.parameters(), *adapter.image_prompt.parameters())
    assert all(parameter.grad is None for parameter in frozen)


def test_a_new_adapter_takes_over_prior_and_image_prompt_as_they_are(base, adapter):
    prior = tiny_prior().state_dict()
    mine = adapter.prior.state_dict()
    assert mine.keys() == prior.keys() and all(torch.equal(mine[name], prior[name]) for name in prior)
    projector = base.ip_adapter.projector.state_dict()
    assert all(torch.equal(adapter.image_prompt.projector.state_dict()[name], projector[name]) for name in projector)
    for mine, theirs in (("to_k_ip", base.ip_adapter.to_k_ip), ("to_v_ip", base.ip_adapter.to_v_ip)):
        pairs = zip(getattr(adapter.image_prompt, mine), theirs, strict=True)
        assert all(torch.equal(one.weight, other.weight) for one, other in pairs)


def test_a_new_adapter_needs_an_image_prompt_and_for_its_default_a_prior(base):
    with pytest.raises(InputError, match=r"mapper_input: expected a displacement prior for displacement_and_source"):
        Adapter.from_base(base, adapter_settings(), torch.Generator())
    bare = dataclasses.replace(base, ip_adapter=None)
    with pytest.raises(InputError, match=r"expected a base loaded with its IP-Adapter, to start the image prompt from"):
        Adapter.from_base(bare, adapter_settings(), torch.Generator(), tiny_prior())


def test_a_mapper_goes_on_from_that_of_a_trained_adapter(base, adapter, tmp_path):
    trained = start_tiny_adapter(base)
    perturb(trained.mapper)
    trained.save(tmp_path)
    before = {name: value.clone() for name, value in adapter.state_dict().items()}
    adapter.start_mapper(tmp_path)
    for name, value in adapter.state_dict().items():
        is_mapper = name.startswith("mapper.")
        assert torch.equal(value, trained.state_dict()[name] if is_mapper else before[name]), name
    assert all(parameter.requires_grad for parameter in adapter.mapper.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"num_words": 2},
            r"config\.json: num_words: expected 2 to start from, found 4; train\.start: scratch",
        ),
        (
            {"rank": 2},
            r"config\.json: rank: expected 2 to start from, found None; train\.start: scratch",
        ),
        (
            {"mapper_input": "displacement"},
            r"mapper_input: expected displacement to start from, found",
        ),
    ],
)
def test_a_mapper_of_another_form_is_no_start(base, adapter, tmp_path, settings, message):
    adapter.save(tmp_path)
    with pytest.raises(InputError, match=message):
        start_tiny_adapter(base, **settings).start_mapper(tmp_path)
    with pytest.raises(InputError, match=r"none.config\.json: expected an adapter's configuration"):
        adapter.start_mapper(tmp_path / "none")


def test_a_mapper_beside_another_image_prompt_is_no_start(base, adapter, tmp_path):
    with torch.no_grad():
        adapter.image_prompt.to_k_ip[0].weight += 0.1
    adapter.save(tmp_path)
    with pytest.raises(InputError, match=r"adapter\.safetensors: image_prompt: expected the base's, found another"):
        start_tiny_adapter(base).start_mapper(tmp_path)


def test_a_mapper_of_other_bandwidths_is_no_start(base, tmp_path):
    settings = {"mapper_input": "displacement", "num_words": 1}
    start_tiny_adapter(base, **settings, sigma_time=3.0).save(tmp_path)
    with pytest.raises(InputError, match=r"sigma_time: expected 6\.0 to start from, found 3\.0"):
        start_tiny_adapter(base, **settings).start_mapper(tmp_path)


def test_a_mapper_for_another_base_is_no_start(adapter, tmp_path):
    adapter.save(tmp_path / "adapter")
    other = load_base(str(build_tiny_base(tmp_path / "other", blocks=(32, 64, 64))))
    with pytest.raises(InputError, match=r"adapter\.safetensors: expected the weights of config\.json"):
        start_tiny_adapter(other).start_mapper(tmp_path / "adapter")


@pytest.mark.parametrize(
    "settings", [{}, {"num_words": 3}, {"rank": 2}, {"mapper_input": "displacement", "num_words": 1}]
)
def test_save_and_load_round_trip(base, tmp_path, settings):
    adapter = start_tiny_adapter(base, **settings)
    perturb(adapter)
    adapter.save(tmp_path / "adapter", {"steps": 3})
    loaded = Adapter.load(tmp_path / "adapter", base)
    assert {p.name for p in (tmp_path / "adapter").iterdir()} == {"adapter.safetensors", "config.json"}
    assert loaded.config.training == {"steps": 3}
    assert loaded.config.settings == adapter.config.settings and loaded.config.prior == adapter.config.prior
    state = loaded.state_dict()
    assert state.keys() == adapter.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in adapter.state_dict().items())
    assert not any(parameter.requires_grad for parameter in loaded.parameters()) and not loaded.training


def test_fixed_weights_are_computed_when_loaded_and_never_saved(base, tmp_path):
    adapter = start_tiny_adapter(base, rank=2)
    perturb(adapter.mapper)
    adapter.save(tmp_path / "adapter")
    loaded, goes_on = Adapter.load(tmp_path / "adapter", base), start_tiny_adapter(base, rank=2)
    goes_on.start_mapper(tmp_path / "adapter")
    for name, fixed in adapter.mapper.named_buffers():
        assert name.endswith("weight") and fixed.any()
        torch.testing.assert_close(loaded.mapper.get_buffer(name), fixed)
        torch.testing.assert_close(goes_on.mapper.get_buffer(name), fixed)
    size = (tmp_path / "adapter" / "adapter.safetensors").stat().st_size
    start_tiny_adapter(base).save(tmp_path / "whole")
    assert size < (tmp_path / "whole" / "adapter.safetensors").stat().st_size


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
    config["settings"]["mapper_input"] = "dreams"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="mapper_input: expected 'displacement_and_source' or 'displacement', got"):
        Adapter.load(tmp_path, base)
    (tmp_path / "config.json").write_text(json.dumps(config | {"format_version": 2}))  # displacement tokens, LoRA
    with pytest.raises(InputError, match=r"config\.json: format_version: expected 3 or 4, got 2"):
        Adapter.load(tmp_path, base)


@pytest.mark.parametrize("mapper_input", ["displacement_and_source", "displacement"])
@torch.no_grad()
def test_weights_of_the_other_sign_are_turned_round(base, tmp_path, mapper_input):
    """Adapters of format 3 were trained with times of the opposite sign."""
    adapter = start_tiny_adapter(base, mapper_input=mapper_input)
    adapter.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"format_version": 3}))
    old: Any = Adapter.load(tmp_path, base)
    later = make_conditions([True, True], [False, True])
    assert old.config.format_version == 4
    moved = later.displacement
    earlier = dataclasses.replace(later, displacement=dataclasses.replace(moved, time=-moved.time))
    asked: Any = ((old, later), (adapter, earlier), (adapter, later))
    words = [each.words(base.text_encoder, given, TIMESTEPS, 1.0).values for each, given in asked]
    assert torch.equal(words[0], words[1]) and not torch.allclose(words[0], words[2])
    if mapper_input == "displacement":
        started: Any = Adapter.from_base(base, old.config.settings, torch.Generator(), pretrained=tmp_path)
        assert torch.equal(started.mapper.time.features.frequencies, old.mapper.time.features.frequencies)
    else:
        assert torch.equal(DisplacementPrior.load(tmp_path).frequencies, old.prior.frequencies)


def test_broken_bases_are_one_clear_line(tiny_base, tmp_path):
    with pytest.raises(InputError, match=r"expected a model folder .* or a Hub id"):
        load_base(str(tmp_path / "missing"))
    with pytest.raises(InputError, match=r"model_index\.json"):
        load_base(str(tmp_path))
    copy = shutil.copytree(tiny_base, tmp_path / "copy")
    shutil.rmtree(copy / "ip_adapter")
    with pytest.raises(InputError, match="ip_adapter: expected one IP-Adapter checkpoint"):
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
    features = encode_images(base, images)
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
