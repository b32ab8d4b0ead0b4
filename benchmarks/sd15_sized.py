"""A base of the size of Stable Diffusion 1.5 with random weights, for timing.

    python benchmarks/sd15_sized.py data/base/sd15

writes it in the layout of the real one (`docs/stable-diffusion.md`), to try the commands without a download.
"""

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.embeddings import IPAdapterPlusImageProjection
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from fourdistill.ip_adapter_files import NO_PRIOR, write_ip_adapter
from fourdistill.models.adapter import Adapter
from fourdistill.models.attention import cross_attention_names, install_processors
from fourdistill.models.base.model import BaseModel, IPAdapter, restore_stock_processors

NUM_VISION_LAYERS = 4  # of ViT-H's 32, to save memory; both contenders run them once, so the comparison is not affected
LATENT_SIZE = 32  # 256 x 256 pixels


def build_sd15_base(latent_size: int = LATENT_SIZE) -> BaseModel:
    """U-Net, VAE and text encoder as in Stable Diffusion 1.5, the first layers of ViT-H, and IP-Adapter Plus."""
    torch.manual_seed(0)  # diffusers and transformers initialise weights from the global generator
    unet: Any = UNet2DConditionModel(sample_size=latent_size, cross_attention_dim=768)  # diffusers' defaults are SD's
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,  # type: ignore[arg-type]
        up_block_types=("UpDecoderBlock2D",) * 4,  # type: ignore[arg-type]
        layers_per_block=2,
        latent_channels=4,
    )
    text_encoder = CLIPTextModel(
        CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    )
    image_encoder = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=1280, intermediate_size=5120, num_hidden_layers=NUM_VISION_LAYERS, num_attention_heads=16,
            image_size=224, patch_size=14, projection_dim=1024, hidden_act="gelu",
        )
    )  # fmt: skip
    projector = IPAdapterPlusImageProjection(
        embed_dims=1280, output_dims=768, hidden_dims=768, depth=4, dim_head=64, heads=12, num_queries=16
    )
    layers: Any = [unet.get_submodule(f"{name}.to_k") for name in cross_attention_names(unet)]
    ip_adapter = IPAdapter(
        projector,
        [nn.Linear(768, layer.out_features, bias=False) for layer in layers],
        [nn.Linear(768, layer.out_features, bias=False) for layer in layers],
    )
    install_processors(unet)
    parts: list[Any] = [unet, vae, text_encoder, build_tokenizer(), image_encoder]
    for part in (unet, vae, text_encoder, image_encoder):
        part.requires_grad_(False).eval()
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", steps_offset=1, clip_sample=False)
    return BaseModel(
        "sd15-sized", *parts, feature_extractor=CLIPImageProcessor(), scheduler=scheduler, ip_adapter=ip_adapter
    )


def build_tokenizer() -> CLIPTokenizer:
    """A tokenizer that has only letters: a prompt always has 77 tokens, however it is split."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def main(out: Annotated[Path, typer.Argument(help="The folder to write.")], latent_size: int = 64) -> None:
    """Write the base in fp16: diffusers' layout, with `image_encoder/` and `ip_adapter/` beside its parts."""
    base: Any = build_sd15_base(latent_size)
    adapter = Adapter.from_base(base, NO_PRIOR, torch.Generator().manual_seed(0))
    (out / "ip_adapter").mkdir(parents=True, exist_ok=True)
    write_ip_adapter(out / "ip_adapter" / "ip-adapter-plus_sd15.safetensors", adapter.half(), base.unet)
    restore_stock_processors(base.unet)
    parts = (base.vae, base.text_encoder, base.tokenizer, base.unet, base.scheduler, None, base.feature_extractor)
    pipe: Any = StableDiffusionPipeline(*parts, requires_safety_checker=False)
    pipe.to(torch.float16).save_pretrained(out)
    base.image_encoder.half().save_pretrained(out / "image_encoder")
    typer.echo(f"wrote {out}")


if __name__ == "__main__":
    typer.run(main)
