"""Stable Diffusion 1.5, 2.1 and SDXL in full size without weights (on torch's meta device), and their IP-Adapters."""

from typing import Any

import torch
from diffusers import UNet2DConditionModel

UNETS: dict[str, dict[str, Any]] = {  # arguments that differ from diffusers' defaults, which are those of SD 1.5
    "sd15": {"sample_size": 64, "cross_attention_dim": 768},
    "sd21": {
        "sample_size": 96, "cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True, "upcast_attention": True,
    },
    "sdxl": {
        "sample_size": 128, "cross_attention_dim": 2048, "attention_head_dim": (5, 10, 20),
        "block_out_channels": (320, 640, 1280), "transformer_layers_per_block": (1, 2, 10),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "use_linear_projection": True,
        "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}  # fmt: skip
PARAMETERS = {"sd15": 859_520_964, "sd21": 865_910_724, "sdxl": 2_567_463_684}
# Of the published IP-Adapters: tokens; hidden width and heads of a Plus; D of what they read; None: an original one.
IP_ADAPTERS = {
    "ip-adapter_sd15": ("sd15", None, 1024),
    "ip-adapter-plus_sd15": ("sd15", (16, 768, 12), 1280),
    "ip-adapter_sdxl": ("sdxl", None, 1280),
    "ip-adapter_sdxl_vit-h": ("sdxl", None, 1024),
    "ip-adapter-plus_sdxl_vit-h": ("sdxl", (16, 1280, 20), 1280),
}


def build_unet(kind: str) -> Any:
    """A U-Net without weights."""
    with torch.device("meta"):
        return UNet2DConditionModel(**UNETS[kind])


def ip_adapter_weights(name: str, unet: Any) -> dict[str, torch.Tensor]:
    """A published IP-Adapter's weights in the original layout: names and shapes alone."""
    _, plus, embeds = IP_ADAPTERS[name]
    width = unet.config["cross_attention_dim"]
    if plus is None:
        shapes = {"proj.weight": (4 * width, embeds), "proj.bias": (4 * width,)} | norm("norm", width)
    else:
        tokens, hidden, heads = plus
        shapes = {
            "latents": (1, tokens, hidden),
            "proj_in.weight": (hidden, embeds),
            "proj_in.bias": (hidden,),
            "proj_out.weight": (width, hidden),
            "proj_out.bias": (width,),
        }
        shapes |= norm("norm_out", width)
        for i in range(4):
            shapes |= norm(f"layers.{i}.0.norm1", hidden) | norm(f"layers.{i}.0.norm2", hidden)
            shapes |= norm(f"layers.{i}.1.0", hidden) | {
                f"layers.{i}.0.to_q.weight": (64 * heads, hidden),
                f"layers.{i}.0.to_kv.weight": (2 * 64 * heads, hidden),
                f"layers.{i}.0.to_out.weight": (hidden, 64 * heads),
                f"layers.{i}.1.1.weight": (4 * hidden, hidden),
                f"layers.{i}.1.3.weight": (hidden, 4 * hidden),
            }
    shapes = {f"image_proj.{key}": shape for key, shape in shapes.items()}
    for number, key in enumerate(unet.attn_processors):
        if key.endswith("attn2.processor"):
            inner = unet.get_submodule(key.removesuffix(".processor")).to_k.out_features
            shapes |= {f"ip_adapter.{number}.to_{kv}_ip.weight": (inner, width) for kv in "kv"}
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
