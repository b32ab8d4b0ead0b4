"""Stock diffusers loads the shipped base as a Stable Diffusion model with an IP-Adapter."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors import safe_open

MINI = Path(__file__).resolve().parents[3] / "data" / "base" / "mini"


@pytest.fixture(scope="module")
def pipe():
    pipe = StableDiffusionPipeline.from_pretrained(MINI)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generate(pipe, **inputs) -> np.ndarray:
    images = pipe("", num_inference_steps=6, generator=torch.Generator().manual_seed(0), output_type="np", **inputs)
    return images.images[0]


def test_stock_pipeline_generates_and_its_adapter_follows_the_picture(pipe):
    without = generate(pipe)
    assert without.shape == (128, 128, 3) and np.isfinite(without).all()
    pipe.load_ip_adapter(
        str(MINI), subfolder="ip_adapter", weight_name="ip-adapter-plus_mini.safetensors", image_encoder_folder=None
    )
    pipe.set_ip_adapter_scale(1.0)
    dark, pale = (Image.fromarray(np.full((128, 128, 3), level, np.uint8)) for level in (90, 225))
    darker, paler = (generate(pipe, ip_adapter_image=picture, guidance_scale=1.0) for picture in (dark, pale))
    assert darker.mean() + 0.02 < paler.mean()


def test_weights_are_safetensors_in_half_precision_and_small():
    files = [path for path in MINI.rglob("*") if path.is_file()]
    assert not [path.name for path in files if path.suffix in {".bin", ".pt", ".pkl", ".ckpt", ".pth"}]
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert {path.parent.name for path in weights} >= {"unet", "vae", "text_encoder", "image_encoder", "ip_adapter"}
    assert sum(path.stat().st_size for path in weights) <= 40 * 2**20
    for path in weights:
        with safe_open(path, framework="pt") as tensors:
            assert {tensors.get_slice(name).get_dtype() for name in tensors.keys()} <= {"F16", "I64"}, path  # noqa: SIM118
