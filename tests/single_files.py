"""A base in diffusers' layout => a whole checkpoint in one file, in Stability's layout, as people pass them around.

The inverse of what diffusers' `from_single_file` does, whose tables of names it uses.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import DIFFUSERS_TO_LDM_MAPPING
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection

Weights = dict[str, torch.Tensor]
NAMES: Any = DIFFUSERS_TO_LDM_MAPPING
RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def write_single_file(base: Path, path: Path, dtype: torch.dtype = torch.float32) -> Path:
    """Write the weights of a base's U-Net, VAE and text encoders into one file."""
    unet: Any = UNet2DConditionModel.from_pretrained(base / "unet")
    vae: Any = AutoencoderKL.from_pretrained(base / "vae")
    whole = {f"model.diffusion_model.{name}": value for name, value in rename_unet(unet).items()}
    whole |= {f"first_stage_model.{name}": value for name, value in rename_vae(vae).items()}
    text = CLIPTextModel.from_pretrained(base / "text_encoder").state_dict()
    first = "conditioner.embedders.0" if (base / "text_encoder_2").is_dir() else "cond_stage_model"
    whole |= {f"{first}.transformer.text_model.{name}": value for name, value in text.items()}
    if (base / "text_encoder_2").is_dir():
        second = CLIPTextModelWithProjection.from_pretrained(base / "text_encoder_2").state_dict()
        whole |= {f"conditioner.embedders.1.model.{name}": value for name, value in rename_open_clip(second).items()}
    save_file({name: value.to(dtype).contiguous().clone() for name, value in whole.items()}, path)
    return path


def rename(name: str, names: dict[str, str]) -> str:
    for theirs, other in names.items():
        name = name.replace(theirs, other)
    return name


def rename_unet(unet: Any) -> Weights:
    """A U-Net's weights: blocks of both directions in one row each, a layer and what follows it under one number."""
    per_block = unet.config["layers_per_block"]
    renamed = {}
    exact = NAMES["unet"]["layers"] | NAMES["unet"]["addition_embed_type"]
    for name, value in unet.state_dict().items():
        part, *rest = name.split(".")
        if name in exact:
            renamed[exact[name]] = value
            continue
        if part == "mid_block":
            kind, number, inside = rest[0], int(rest[1]), ".".join(rest[2:])
            place = f"middle_block.{2 * number if kind == 'resnets' else 1}"
        else:
            block, kind, number, inside = int(rest[0]), rest[1], int(rest[2]), ".".join(rest[3:])
            if part == "down_blocks":
                first = (per_block + 1) * block + 1
                place = {
                    "resnets": f"input_blocks.{first + number}.0",
                    "attentions": f"input_blocks.{first + number}.1",
                    "downsamplers": f"input_blocks.{first + per_block}.0",
                }[kind]
            else:
                first = (per_block + 1) * block
                follows = 2 if any(key.startswith(f"up_blocks.{block}.attentions") for key in unet.state_dict()) else 1
                place = {
                    "resnets": f"output_blocks.{first + number}.0",
                    "attentions": f"output_blocks.{first + number}.1",
                    "upsamplers": f"output_blocks.{first + per_block}.{follows}",
                }[kind]
        if kind == "resnets":
            inside = rename(inside, RESNET)
        if kind == "downsamplers":
            inside = inside.replace("conv", "op")
        renamed[f"{place}.{inside}"] = value
    return renamed


def rename_vae(vae: Any) -> Weights:
    """A VAE's weights; blocks of the decoder count backwards, linear maps of its attention are convolutions."""
    last = len(vae.config["block_out_channels"]) - 1
    renamed = {}
    for name, value in vae.state_dict().items():
        parts = name.split(".")
        if name in NAMES["vae"]:
            renamed[NAMES["vae"][name]] = value
        elif parts[1] == "mid_block" and parts[2] == "resnets":
            inside = ".".join(parts[4:]).replace("conv_shortcut", "nin_shortcut")
            renamed[f"{parts[0]}.mid.block_{int(parts[3]) + 1}.{inside}"] = value
        elif parts[1] == "mid_block":
            inside = rename(".".join(parts[4:]), VAE_ATTENTION)
            renamed[f"{parts[0]}.mid.attn_1.{inside}"] = value[:, :, None, None] if value.ndim == 2 else value
        else:
            direction = "down" if parts[1] == "down_blocks" else "up"
            block = int(parts[2]) if direction == "down" else last - int(parts[2])
            kind = f"block.{parts[4]}" if parts[3] == "resnets" else f"{direction}sample"
            inside = ".".join(parts[5:]).replace("conv_shortcut", "nin_shortcut")
            renamed[f"{parts[0]}.{direction}.{block}.{kind}.{inside}"] = value
    return renamed


def rename_open_clip(weights: Weights) -> Weights:
    """The second text encoder's weights; queries, keys and values are one map, the projection lies on its side."""
    renamed, exact = {}, NAMES["openclip"]["layers"]
    for name, value in weights.items():
        if name in exact:
            renamed[exact[name]] = value.T if name == "text_projection.weight" else value
        elif ".q_proj." in name:
            joined = [weights[name.replace("q_proj", f"{kind}_proj")] for kind in "qkv"]
            place = rename(name, NAMES["openclip"]["transformer"]).replace(".q_proj.", ".in_proj_")
            renamed[f"transformer.{place}"] = torch.cat(joined)
        elif ".k_proj." not in name and ".v_proj." not in name:
            renamed[f"transformer.{rename(name, NAMES['openclip']['transformer'])}"] = value
    return renamed
