# diffusers annotates its arguments too narrowly:
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
"""Tiny, seeded, real bases in Stable Diffusion layout: U-Net, VAE, CLIP towers, tokenizers, IP-Adapter."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

WIDTH = 32  # text and image width
PROJECTION = 32  # of the image encoder's projected output
PLUS_NAME = "ip-adapter-plus_tiny.safetensors"
SIZE = 32  # pixels; 8x8 latents of 4 channels
BLOCKS = (32, 64)


def build_tiny_base(folder: Path, *, blocks: tuple[int, ...] = BLOCKS, seed: int = 0) -> Path:
    """Write a base of about 1 M parameters with random weights into `folder`; stock diffusers loads it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # diffusers and transformers initialise weights from the global generator
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            block_out_channels=blocks,
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D",) * len(blocks),
            up_block_types=("CrossAttnUpBlock2D",) * len(blocks),
            cross_attention_dim=WIDTH,
            attention_head_dim=2,
            norm_num_groups=8,
        )
        vae = tiny_vae()
        tokenizer = build_tokenizer()
        text_encoder = CLIPTextModel(tiny_text_config(tokenizer, WIDTH))
        image_encoder = tiny_image_encoder()
        ip_adapter = random_ip_adapter(unet)
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(
            prediction_type="v_prediction", beta_schedule="squaredcos_cap_v2", steps_offset=1, clip_sample=False
        ),
        safety_checker=None,
        requires_safety_checker=False,
        image_encoder=image_encoder,
        feature_extractor=tiny_feature_extractor(),
    ).save_pretrained(folder)
    write_ip_adapter(folder, ip_adapter)
    return folder


def build_tiny_xl(folder: Path, *, seed: int = 0) -> Path:
    """The same with SDXL's structure: two text encoders, pooled text, sizes, several transformer blocks a layer."""
    width_2, projection, sizes_width = 48, 40, 8
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=BLOCKS,
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2),
            cross_attention_dim=WIDTH + width_2,
            attention_head_dim=(2, 4),
            norm_num_groups=8,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=sizes_width,
            projection_class_embeddings_input_dim=6 * sizes_width + projection,
        )
        vae = tiny_vae(scaling_factor=0.13025)
        tokenizers = build_tokenizer(), build_tokenizer()
        text_encoder = CLIPTextModel(tiny_text_config(tokenizers[0], WIDTH))
        config = tiny_text_config(tokenizers[1], width_2, projection_dim=projection, hidden_act="gelu")
        text_encoder_2 = CLIPTextModelWithProjection(config)
        image_encoder = tiny_image_encoder()
        ip_adapter = random_ip_adapter(unet)
    StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=text_encoder,
        text_encoder_2=text_encoder_2,
        tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1],
        unet=unet,
        scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear", steps_offset=1),
        image_encoder=image_encoder,
        feature_extractor=tiny_feature_extractor(),
        add_watermarker=False,
    ).save_pretrained(folder)
    write_ip_adapter(folder, ip_adapter)
    return folder


def tiny_vae(**options: Any) -> AutoencoderKL:
    """Four latents for every 4 x 4 pixels."""
    return AutoencoderKL(
        block_out_channels=(8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=4,
        layers_per_block=1,
        **options,
    )


def tiny_text_config(tokenizer: CLIPTokenizer, width: int, **options: Any) -> CLIPTextConfig:
    """Two layers of this width."""
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **options,
    )


def tiny_image_encoder() -> CLIPVisionModelWithProjection:
    """Sixteen patches of a picture and the class token."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=WIDTH,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=SIZE,
            patch_size=8,
            projection_dim=PROJECTION,
        )
    )


def tiny_feature_extractor() -> CLIPImageProcessor:
    """Pictures as they are, normalized."""
    return CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})


def write_ip_adapter(base: Path, weights: dict[str, torch.Tensor], name: str = PLUS_NAME) -> Path:
    """The only IP-Adapter in a base's folder."""
    folder = base / "ip_adapter"
    folder.mkdir(exist_ok=True)
    for other in folder.glob("*.safetensors"):
        other.unlink()
    save_file(weights, folder / name)
    return folder / name


def build_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer trained on two captions."""
    bpe = Tokenizer(BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = ByteLevel(add_prefix_space=False)
    special = ["<|startoftext|>", "<|endoftext|>"]
    trainer = BpeTrainer(
        vocab_size=320, special_tokens=special, end_of_word_suffix="</w>", initial_alphabet=ByteLevel.alphabet()
    )
    bpe.train_from_iterator(["a man in a red top walks", "a woman in a blue top runs"], trainer)
    merges = [tuple(merge) for merge in json.loads(bpe.to_str())["model"]["merges"]]
    return CLIPTokenizer(vocab=bpe.get_vocab(), merges=merges, model_max_length=16)


def random_ip_adapter(unet: Any, tokens: int = 4, hidden: int = 64) -> dict[str, torch.Tensor]:
    """An IP-Adapter Plus checkpoint in the original key layout, flattened; layers numbered down, up, mid."""
    inner, width = 64, unet.config["cross_attention_dim"]  # one head of 64, which diffusers' loader takes for granted
    projector = {
        "latents": torch.randn(1, tokens, hidden) / hidden**0.5,
        "proj_in.weight": random_weight(hidden, WIDTH),
        "proj_in.bias": torch.zeros(hidden),
        "proj_out.weight": random_weight(width, hidden),
        "proj_out.bias": torch.zeros(width),
        "norm_out.weight": torch.ones(width),
        "norm_out.bias": torch.zeros(width),
    }
    for i in range(4):  # the depth assumed by diffusers' loader
        for norm in (f"layers.{i}.0.norm1", f"layers.{i}.0.norm2", f"layers.{i}.1.0"):
            projector |= {f"{norm}.weight": torch.ones(hidden), f"{norm}.bias": torch.zeros(hidden)}
        projector |= {
            f"layers.{i}.0.to_q.weight": random_weight(inner, hidden),
            f"layers.{i}.0.to_kv.weight": random_weight(2 * inner, hidden),
            f"layers.{i}.0.to_out.weight": random_weight(hidden, inner),
            f"layers.{i}.1.1.weight": random_weight(4 * hidden, hidden),
            f"layers.{i}.1.3.weight": random_weight(hidden, 4 * hidden),
        }
    return {f"image_proj.{name}": value for name, value in projector.items()} | random_layers(unet)


def random_original_ip_adapter(unet: Any, seed: int = 0) -> dict[str, torch.Tensor]:
    """An original IP-Adapter checkpoint, flattened: 4 tokens of the image encoder's projected output."""
    width = unet.config["cross_attention_dim"]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        projector = {
            "proj.weight": random_weight(4 * width, PROJECTION),
            "proj.bias": torch.randn(4 * width),
            "norm.weight": 1 + 0.1 * torch.randn(width),
            "norm.bias": torch.randn(width),
        }
        return {f"image_proj.{name}": value for name, value in projector.items()} | random_layers(unet)


def random_layers(unet: Any) -> dict[str, torch.Tensor]:
    """Keys and values of an IP-Adapter for every cross-attention layer, by its number."""
    layers = {}
    for index, name in enumerate(unet.attn_processors):
        if name.endswith("attn2.processor"):
            to_k = unet.get_submodule(name.removesuffix(".processor")).to_k
            for kind in "kv":
                weight = random_weight(to_k.out_features, to_k.in_features)
                layers[f"ip_adapter.{index}.to_{kind}_ip.weight"] = weight
    return layers


def random_weight(*shape: int) -> torch.Tensor:
    """A linear map that keeps the size of what it maps."""
    return torch.randn(*shape) / shape[-1] ** 0.5
