"""A base of the size of Stable Diffusion 1.5 with random weights, for timing."""

from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
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

from fourdistill.models.attention import cross_attention_names, install_processors
from fourdistill.models.base.model import BaseModel, IPAdapter

NUM_VISION_LAYERS = 4  # of ViT-H's 32, to save memory; both contenders run them once, so the comparison is not affected
LATENT_SIZE = 32  # 256 x 256 pixels


def build_sd15_base() -> BaseModel:
    """U-Net, VAE and text encoder as in Stable Diffusion 1.5, the first layers of ViT-H, and IP-Adapter Plus."""
    torch.manual_seed(0)  # diffusers and transformers initialise weights from the global generator
    unet: Any = UNet2DConditionModel(sample_size=LATENT_SIZE, cross_attention_dim=768)  # diffusers' defaults are SD's
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
