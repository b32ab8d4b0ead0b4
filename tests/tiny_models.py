# diffusers annotates its arguments too narrowly:
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
"""A tiny, seeded, real base in Stable Diffusion layout: U-Net, VAE, CLIP towers, tokenizer, IP-Adapter Plus."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

WIDTH = 32  # text and image width
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
        vae = AutoencoderKL(
            block_out_channels=(8, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            latent_channels=4,
            norm_num_groups=4,
            layers_per_block=1,
        )
        tokenizer = build_tokenizer()
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=WIDTH,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=16,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        image_encoder = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=WIDTH,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                image_size=SIZE,
                patch_size=8,
                projection_dim=WIDTH,
            )
        )
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
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}),
    ).save_pretrained(folder)
    (folder / "ip_adapter").mkdir()
    save_file(ip_adapter, folder / "ip_adapter" / "ip-adapter-plus_tiny.safetensors")
    return folder


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


def random_ip_adapter(unet: UNet2DConditionModel, tokens: int = 4, hidden: int = 64) -> dict[str, torch.Tensor]:
    """An IP-Adapter Plus checkpoint in the original key layout, flattened; layers numbered down, up, mid."""
    inner = 64  # one head of 64, assumed by diffusers' loader

    def weight(*shape: int) -> torch.Tensor:
        return torch.randn(*shape) / shape[-1] ** 0.5

    projector = {
        "latents": torch.randn(1, tokens, hidden) / hidden**0.5,
        "proj_in.weight": weight(hidden, WIDTH),
        "proj_in.bias": torch.zeros(hidden),
        "proj_out.weight": weight(WIDTH, hidden),
        "proj_out.bias": torch.zeros(WIDTH),
        "norm_out.weight": torch.ones(WIDTH),
        "norm_out.bias": torch.zeros(WIDTH),
    }
    for i in range(4):  # the depth assumed by diffusers' loader
        for norm in (f"layers.{i}.0.norm1", f"layers.{i}.0.norm2", f"layers.{i}.1.0"):
            projector |= {f"{norm}.weight": torch.ones(hidden), f"{norm}.bias": torch.zeros(hidden)}
        projector |= {
            f"layers.{i}.0.to_q.weight": weight(inner, hidden),
            f"layers.{i}.0.to_kv.weight": weight(2 * inner, hidden),
            f"layers.{i}.0.to_out.weight": weight(hidden, inner),
            f"layers.{i}.1.1.weight": weight(4 * hidden, hidden),
            f"layers.{i}.1.3.weight": weight(hidden, 4 * hidden),
        }
    layers = {}
    for index, name in enumerate(unet.attn_processors):
        if name.endswith("attn2.processor"):
            width = unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
            layers |= {f"{index}.to_{kind}_ip.weight": weight(width, WIDTH) for kind in "kv"}
    return {f"image_proj.{k}": v for k, v in projector.items()} | {f"ip_adapter.{k}": v for k, v in layers.items()}
