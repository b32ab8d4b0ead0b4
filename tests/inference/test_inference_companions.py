"""What people load and switch on beside a pipeline: LoRAs, torch.compile, half precision, ControlNet, other devices."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import save_file
from tiny_adapters import build_tiny_adapter, tiny_picture

from fourdistill import FourDistillPipeline
from fourdistill.errors import InputError
from fourdistill.models.base.precision import check_precision, resolve_precision
from fourdistill.models.settings import MAPPER_INPUTS

STOCK: dict[str, Any] = {"tiny_base": StableDiffusionPipeline, "tiny_xl": StableDiffusionXLPipeline}
HALVES = (torch.float16, torch.bfloat16)
SHOWN: dict[str, Any] = {"image": tiny_picture(), "time": 0.3, "azimuth": 20}


@pytest.fixture(params=STOCK)
def base(request):
    return request.param, request.getfixturevalue(request.param)


@pytest.fixture
def pipe(base, tmp_path):
    return load(base[1], build_tiny_adapter(base[1], tmp_path / "adapter"))


def load(base, adapter, **options) -> Any:
    pipe = FourDistillPipeline.from_pretrained(base, adapter, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def latents(pipe, **given) -> Any:
    given = {"prompt": "a man", "prompt_strength": 0, "num_inference_steps": 2, "seed": 0, **given}
    return pipe(**given, output_type="latent").images


def random_lora(pipe, path, size):
    """A LoRA of rank 2 of the U-Net's keys and values and the text encoders' values."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for part, ends in (("unet", ("to_k", "to_v")), ("text_encoder", ("v_proj",)), ("text_encoder_2", ("v_proj",))):
        model: Any = pipe.components[part]
        for name, layer in [] if model is None else model.named_modules():
            if name.endswith(ends):
                a = torch.randn(2, layer.in_features, generator=generator)
                b = size * torch.randn(layer.out_features, 2, generator=generator)
                weights |= {f"{part}.{name}.lora_A.weight": a, f"{part}.{name}.lora_B.weight": b}
    save_file(weights, path)
    return path


def test_a_lora_changes_the_base_beside_an_adapter_as_it_does_alone(base, pipe, tmp_path):
    pytest.importorskip("peft")
    kind, folder = base
    plain, shown = latents(pipe), latents(pipe, **SHOWN)
    path = random_lora(pipe, tmp_path / "lora.safetensors", 0.1)
    stock = STOCK[kind].from_pretrained(folder)
    stock.set_progress_bar_config(disable=True)
    for each in (pipe, stock):
        each.load_lora_weights(str(path), adapter_name="style")
    given: dict[str, Any] = {"guidance_scale": 1, "num_inference_steps": 2, "output_type": "latent"}
    expected = stock("a man", generator=torch.Generator().manual_seed(0), **given).images
    assert torch.allclose(latents(pipe), expected, atol=1e-5) and not torch.allclose(expected, plain, atol=1e-3)
    assert not torch.allclose(latents(pipe, **SHOWN), shown, atol=1e-3)
    pipe.set_adapters("style", 0.0)
    assert torch.allclose(latents(pipe, **SHOWN), shown, atol=1e-5)
    pipe.unload_lora_weights()
    assert torch.equal(latents(pipe, **SHOWN), shown)


@pytest.mark.parametrize("given", [{"weight_name": "style.bin"}, {"use_safetensors": False}, {}])
def test_a_lora_that_is_no_safetensors_is_refused_before_it_is_read(pipe, tmp_path, given):
    pickled = tmp_path / "style.bin"
    pickled.write_bytes(b"never read")
    with pytest.raises(InputError, match=r"^load_lora_weights: expected \.safetensors, got .*(style\.bin|False)$"):
        pipe.load_lora_weights(str(tmp_path if given else pickled), **given)


def test_without_peft_a_lora_is_one_line(pipe, monkeypatch):
    monkeypatch.setattr("fourdistill.inference.lora.is_peft_available", lambda: False)
    with pytest.raises(InputError, match=r"^load_lora_weights: expected the package peft, which is not installed"):
        pipe.load_lora_weights("style.safetensors")


def test_a_controlnet_is_one_line(base, tmp_path):
    with pytest.raises(InputError, match=r"^controlnet: expected none: ControlNet is left to diffusers"):
        load(base[1], tmp_path, controlnet=SimpleNamespace())


@pytest.mark.parametrize(("dtype", "mapper_input"), [*zip(HALVES, MAPPER_INPUTS, strict=True)])
def test_half_precision_is_near_to_single(base, tmp_path, mapper_input, dtype):
    folder = build_tiny_adapter(base[1], tmp_path / "adapter", mapper_input=mapper_input)
    pipe = load(base[1], folder, dtype=dtype)
    assert {part.dtype for part in pipe.components.values() if isinstance(part, torch.nn.Module)} == {dtype}
    given = {**SHOWN, "guidance_scale": 1.5, "num_inference_steps": 3}
    expected, found = latents(load(base[1], folder), **given), latents(pipe, **given)
    assert found.dtype == dtype
    error = (found.float() - expected).norm() / expected.norm()
    assert error < (0.02 if dtype == torch.float16 else 0.1)
    pixels: Any = pipe(**SHOWN, num_inference_steps=1, output_type="np").images
    assert pixels.shape == (1, 32, 32, 3) and pixels.std() > 0.01 and pipe.vae.dtype == dtype


def test_a_saved_pipeline_in_half_precision_is_loaded_as_it_was(pipe, base, tmp_path):
    pipe.to(torch.float16)
    expected = latents(pipe, **SHOWN)
    pipe.save_pretrained(tmp_path / "saved", variant="fp16")
    assert list((tmp_path / "saved/unet").glob("*.fp16.safetensors"))
    assert torch.equal(latents(load(tmp_path / "saved", None, dtype=torch.float16), **SHOWN), expected)


def test_a_compiled_block_draws_the_same(tiny_base, tmp_path):
    pipe = load(tiny_base, build_tiny_adapter(tiny_base, tmp_path / "adapter"))
    expected = latents(pipe, **SHOWN)
    block = pipe.unet.mid_block.attentions[0].transformer_blocks[0]  # of many alike
    block.compile(fullgraph=True, backend="eager")
    assert torch.allclose(latents(pipe, **SHOWN), expected, atol=1e-5)


def test_half_precision_on_apples_gpus_is_refused():
    mps = SimpleNamespace(type="mps")
    assert resolve_precision("auto", mps) == "no"  # type: ignore[arg-type]
    for name in ("bf16", "fp16"):
        with pytest.raises(InputError, match=r"^mixed_precision: expected no on mps, .* got"):
            resolve_precision(name, mps)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^dtype: expected torch.float32 on mps, .* got torch.float16"):
        check_precision(torch.float16, mps)  # type: ignore[arg-type]
    check_precision(torch.float32, mps)  # type: ignore[arg-type]
