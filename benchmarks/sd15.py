"""A base of Stable Diffusion 1.5's shape with random weights, built from its published configuration."""

from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.models.embeddings import IPAdapterPlusImageProjection
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from fourdistill.models.attention import cross_attention_names, install_processors
from fourdistill.models.base import BaseModel, IPAdapter, load_base

PIXELS = 256  # of the frames: latents of 32 x 32


def build_sd15(tokenizer_of: str) -> BaseModel:
    """U-Net (860 M), VAE and CLIP-L of SD 1.5 and an IP-Adapter Plus; the tokenizer is another base's.

    Of the image encoder (CLIP-H) only the width is real: its embeddings are computed once per frame, outside a step.
    """
    unet = UNet2DConditionModel(sample_size=PIXELS // 8, cross_attention_dim=768, attention_head_dim=8)
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
    )
    text = CLIPTextModel(
        CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    )
    vision = CLIPVisionModelWithProjection(
        CLIPVisionConfig(hidden_size=1280, num_hidden_layers=1, num_attention_heads=16, image_size=224, patch_size=14)
    )
    names = install_processors(unet)
    widths = [unet.get_submodule(name).to_k.out_features for name in names]
    projector = IPAdapterPlusImageProjection(
        embed_dims=1280, output_dims=768, hidden_dims=768, depth=4, dim_head=64, heads=12, num_queries=16
    )
    layers = [[nn.Linear(768, width, bias=False) for width in widths] for _ in "kv"]
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
    other = load_base(tokenizer_of, with_ip_adapter=False)
    for part in (unet, vae, text, vision, projector):
        part.requires_grad_(False).eval()
    assert len(cross_attention_names(unet)) == 16
    return BaseModel(
        "sd15", unet, vae, text, other.tokenizer, vision, other.feature_extractor, scheduler,
        IPAdapter(projector, *layers),
    )  # fmt: skip
