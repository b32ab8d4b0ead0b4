"""Contracts with Stable Diffusion 1.5, 2.1 and SDXL in full size: layers by name and number, IP-Adapters by their keys.

No values: what is computed of them is tested on tiny models of the same structure.
"""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from full_shapes import IP_ADAPTERS, PARAMETERS, UNETS, build_unet, ip_adapter_weights

from fourdistill.models.attention import LayerAttnProcessor, cross_attention_names, install_processors
from fourdistill.models.base.ip_adapter import check_kind, fit
from fourdistill.models.base.model import bind_ip_adapter, restore_stock_processors
from fourdistill.models.base.projectors import embeds_width, num_tokens, projector_sizes
from fourdistill.models.mapper import Mapper

LAYERS = {  # down, mid, up; widths in execution order: (width, how many layers of it in a row)
    "sd15": ((6, 1, 9), [(320, 2), (640, 2), (1280, 2), (1280, 1), (1280, 3), (640, 3), (320, 3)]),
    "sd21": ((6, 1, 9), [(320, 2), (640, 2), (1280, 2), (1280, 1), (1280, 3), (640, 3), (320, 3)]),
    "sdxl": ((24, 10, 36), [(640, 4), (1280, 20), (1280, 10), (1280, 30), (640, 6)]),
}


@pytest.fixture(scope="module")
def unets():
    return {kind: build_unet(kind) for kind in UNETS}


@pytest.mark.parametrize("kind", UNETS)
def test_layers_are_found_in_execution_order(unets, kind):
    unet = unets[kind]
    assert sum(parameter.numel() for parameter in unet.parameters()) == PARAMETERS[kind]
    names = cross_attention_names(unet)
    counts, widths = LAYERS[kind]
    parts = ("down_blocks", "mid_block", "up_blocks")
    assert [name.split(".")[0] for name in names] == [
        part for part, count in zip(parts, counts, strict=True) for _ in range(count)
    ]
    expected = [width for width, count in widths for _ in range(count)]
    assert [unet.get_submodule(name).to_k.out_features for name in names] == expected
    assert all(unet.get_submodule(name).to_k.in_features == unet.config["cross_attention_dim"] for name in names)
    assert install_processors(unet) == names
    processors: dict[str, Any] = unet.attn_processors
    for layer, name in enumerate(names):
        processor = processors[f"{name}.processor"]
        assert isinstance(processor, LayerAttnProcessor) and processor.layer == layer


@pytest.mark.parametrize("name", IP_ADAPTERS)
def test_every_key_of_a_published_ip_adapter_is_bound_to_its_layer(unets, name):
    kind, plus, width = IP_ADAPTERS[name]
    unet = unets[kind]
    weights = ip_adapter_weights(name, unet)
    check_kind(Path(name), weights)
    encoder = SimpleNamespace(hidden_size=width if plus else 1, projection_dim=1 if plus else width)
    layers = [key.removesuffix(".processor") for key in unet.attn_processors]
    by_name = {re.sub(r"(?<=^ip_adapter\.)\d+", lambda m: layers[int(m[0])], k): v for k, v in weights.items()}
    assert f"ip_adapter.{cross_attention_names(unet)[0]}.to_k_ip.weight" in by_name
    assert fit(Path(name), by_name, unet, encoder, kind).keys() == weights.keys()
    fitted = fit(Path(name), weights, unet, encoder, kind)
    numbers = sorted({int(key.split(".")[1]) for key in fitted if key.startswith("ip_adapter.")})
    assert numbers == list(range(1, 2 * len(cross_attention_names(unet)), 2))  # as the files have them
    assert layers[numbers[-1]].startswith("mid_block")  # the ordering trap: down, up, mid

    restore_stock_processors(unet)
    names = ("vae", "text_encoder", "tokenizer", "scheduler", "safety_checker", "feature_extractor")
    parts: dict[str, Any] = dict.fromkeys(names) | {"unet": unet}
    pipe = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    with torch.device("meta"):
        bound = bind_ip_adapter(pipe, fitted)
    sizes = projector_sizes(bound.projector)
    assert num_tokens(sizes) == (plus[0] if plus else 4) and embeds_width(sizes) == width
    modules = [bound.projector, *bound.to_k_ip, *bound.to_v_ip]
    found = sum(parameter.numel() for module in modules for parameter in module.parameters())
    assert found == sum(value.numel() for value in weights.values())


@pytest.mark.parametrize(("rank", "expected"), [(None, 591_718_400), (32, 22_865_920)])
def test_how_many_weights_of_sdxl_s_mapper_are_trained(rank, expected):
    with torch.device("meta"):
        mapper = Mapper(70, 16, 2048, num_words=16, width=2048, token_std=0.02, rank=rank)
    assert sum(parameter.numel() for parameter in mapper.parameters()) == expected
