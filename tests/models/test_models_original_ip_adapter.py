"""The original IP-Adapter, 4 tokens of the image encoder's projected output: bound, encoded for, drawn as diffusers."""

import shutil
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from stage_settings import adapter_settings, prior_config
from tiny_adapters import start_tiny_adapter, tiny_picture
from tiny_models import PLUS_NAME, random_original_ip_adapter, write_ip_adapter

from fourdistill import FourDistillPipeline
from fourdistill.errors import InputError
from fourdistill.features.encode import encode_images
from fourdistill.ip_adapter_files import write_ip_adapter as export
from fourdistill.models.adapter import Adapter
from fourdistill.models.attention import cross_attention_names
from fourdistill.models.base.ip_adapter import nested, read_ip_adapter
from fourdistill.models.base.model import encode_image_prompt, encode_null_image, load_base
from fourdistill.models.codec import fit_codec
from fourdistill.models.prior import DisplacementPrior

STOCK: dict[str, Any] = {"tiny_base": StableDiffusionPipeline, "tiny_xl": StableDiffusionXLPipeline}
STEPS: dict[str, Any] = {"num_inference_steps": 3, "output_type": "latent"}


@pytest.fixture(scope="module", params=STOCK)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folder(kind, request, tmp_path_factory):
    """A base with an original IP-Adapter in its folder."""
    folder = shutil.copytree(request.getfixturevalue(kind), tmp_path_factory.mktemp("original") / "base")
    unet: Any = UNet2DConditionModel.from_pretrained(folder / "unet")
    write_ip_adapter(folder, random_original_ip_adapter(unet))
    return folder


@pytest.fixture(scope="module")
def base(folder):
    return load_base(str(folder))


@pytest.fixture(scope="module")
def weights(folder):
    return load_file(folder / "ip_adapter" / PLUS_NAME)


def prior_of(width):
    generator = torch.Generator().manual_seed(0)
    prior = DisplacementPrior(prior_config(1, width, num_components=6, width=16, depth=1, num_rotations=8), generator)
    embeds = torch.randn(40, 1, width, generator=generator)
    prior.codec.load_state_dict(fit_codec(embeds, 6, seed=0).state_dict())
    return prior


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_it_is_drawn_as_diffusers_draws_it(kind, folder, base, guidance_scale):
    adapter = start_tiny_adapter(base, mapper_input="displacement").eval()
    pipe = FourDistillPipeline.from_parts(base, adapter)
    stock = STOCK[kind].from_pretrained(folder)
    stock.load_ip_adapter(str(folder), subfolder="ip_adapter", weight_name=PLUS_NAME)
    for each in (pipe, stock):
        each.set_progress_bar_config(disable=True)
    given = {"guidance_scale": guidance_scale, **STEPS}
    expected = stock(
        "a man", ip_adapter_image=tiny_picture(), generator=torch.Generator().manual_seed(0), **given
    ).images
    own: Any = pipe(tiny_picture(), "a man", seed=0, prompt_strength=0, **given).images
    assert torch.allclose(own, expected, atol=1e-5)


def test_frames_are_encoded_for_it_even_where_it_is_not_loaded(folder, base):
    bare = load_base(str(folder), with_ip_adapter=False)
    embeds = encode_images(bare, [tiny_picture(), tiny_picture(1)])["image_embeds"]
    projected = encode_image_prompt(base.image_encoder, base.feature_extractor, [tiny_picture()], projected=True)
    assert embeds.shape == (2, 1, 32) and torch.allclose(torch.tensor(embeds[:1]).float(), projected, atol=1e-2)
    assert not encode_null_image(base.image_encoder, projected=True).any()


def test_an_adapter_with_a_prior_speaks_four_words_and_is_the_same_when_loaded(base, folder, tmp_path):
    adapter = Adapter.from_base(base, adapter_settings(), torch.Generator().manual_seed(0), prior_of(32)).eval()
    assert len(adapter.mapper.get_parameter("word")) == 4
    adapter.save(tmp_path)
    loaded = Adapter.load(tmp_path, load_base(str(folder), with_ip_adapter=False))
    pictures = []
    for each in (adapter, loaded):
        pipe = FourDistillPipeline.from_parts(base, each)
        pipe.set_progress_bar_config(disable=True)
        pictures.append(pipe(tiny_picture(), time=0.3, seed=0, **STEPS).images)
    assert torch.equal(*pictures)


def test_a_prior_of_other_embeddings_is_refused(base):
    with pytest.raises(InputError, match=r"prior: expected one of image embeddings of 32, as .* found 24"):
        Adapter.from_base(base, adapter_settings(), torch.Generator().manual_seed(0), prior_of(24))


def as_a_saved_unet(weights, unet):
    """As `save_pretrained` of diffusers leaves a U-Net with an IP-Adapter in it."""
    names = list(unet.attn_processors)
    saved = {"conv_in.weight": torch.zeros(1)}
    for name, value in weights.items():
        part, rest = name.split(".", 1)
        if part == "image_proj":
            saved[f"encoder_hid_proj.image_projection_layers.0.{rest.replace('proj.', 'image_embeds.')}"] = value
        else:
            number, kind, _ = rest.split(".")
            saved[f"{names[int(number)]}.{kind}.0.weight"] = value
    return saved


def by_number(weights, _):
    return nested(weights)


def by_name(weights, unet):
    layers = [name.removesuffix(".processor") for name in unet.attn_processors]
    named = {}
    for name, value in weights.items():
        part, number, rest = name.split(".", 2)
        named[name if part == "image_proj" else f"{part}.{layers[int(number)]}.{rest}"] = value
    return named


@pytest.mark.parametrize("layout", [by_number, by_name, as_a_saved_unet])
def test_every_layout_binds_the_same_weights_to_the_same_layers(base, folder, weights, tmp_path, layout):
    unet: Any = UNet2DConditionModel.from_pretrained(folder / "unet")
    content = layout(weights, unet)
    path = tmp_path / "theirs.bin"
    torch.save(content, path)
    found = load_base(str(folder), str(path)).ip_adapter
    assert found is not None and set(read_ip_adapter(path)) >= {"image_proj.proj.weight", "image_proj.norm.bias"}
    number_of = {name.removesuffix(".processor"): number for number, name in enumerate(unet.attn_processors)}
    for name, to_k, to_v in zip(cross_attention_names(base.unet), found.to_k_ip, found.to_v_ip, strict=True):
        assert torch.equal(to_k.weight, weights[f"ip_adapter.{number_of[name]}.to_k_ip.weight"])
        assert torch.equal(to_v.weight, weights[f"ip_adapter.{number_of[name]}.to_v_ip.weight"])


def test_it_is_exported_as_it_came(base, weights, tmp_path):
    adapter = start_tiny_adapter(base, mapper_input="displacement")
    export(tmp_path / "mine.safetensors", adapter, base.unet)
    exported = load_file(tmp_path / "mine.safetensors")
    assert exported.keys() == weights.keys() and all(torch.equal(exported[name], weights[name]) for name in weights)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_proj.proj.weight": torch.zeros(5 * 32, 32)}, "image_proj.proj.weight: expected"),
        ({"image_proj.extra.weight": torch.zeros(1)}, "image_proj.extra.weight: expected none"),
        ({"image_proj.proj.weight": None}, "found an IP-Adapter"),
        ({"image_proj.norm.weight": None}, "found a part of one"),
        ({"ip_adapter.1.to_k_ip.weight": None}, "to_k_ip.weight: expected"),
    ],
)
def test_one_that_is_not_whole_says_what_is_missing(folder, weights, tmp_path, change, words):
    path = tmp_path / "theirs.safetensors"
    changed = {name: value for name, value in (weights | change).items() if value is not None}
    if "ip_adapter.1.to_k_ip.weight" in change:
        del changed[next(name for name in changed if name.endswith("to_k_ip.weight"))]
    save_file(changed, path)
    with pytest.raises(InputError) as caught:
        load_base(str(folder), str(path))
    assert str(caught.value).startswith(f"{path}: ") and words in str(caught.value)
