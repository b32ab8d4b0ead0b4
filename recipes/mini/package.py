"""Stage `package`: save the whole base in Stable Diffusion layout and half precision."""

import json
import shutil
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.embeddings import IPAdapterPlusImageProjection
from safetensors.torch import load_file, save_file
from train_projector import load_projector
from train_unet import add_image_attention, make_scheduler
from transformers import (
    CLIPImageProcessor,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)
from work import MINI, WORK, load_section

from fourdistill.models.base.ip_adapter import projector_weights

CLIP = WORK / "clip" / "model"
LIMIT_BYTES = 40 * 2**20


def load_unet(num_tokens: int) -> Any:
    """The trained U-Net with its image-prompt keys and values."""
    folder = WORK / "unet" / "model"
    unet: Any = UNet2DConditionModel.from_config(json.loads((folder / "config.json").read_text()))
    add_image_attention(unet, num_tokens)
    unet.load_state_dict(load_file(folder / "diffusion_pytorch_model.safetensors"))
    return unet


def image_prompt_checkpoint(unet: Any, projector: IPAdapterPlusImageProjection) -> dict[str, torch.Tensor]:
    """Projector, image keys and values under the names of IP-Adapter-Plus's checkpoints, with prefixes flattened.

    The numbers in the `ip_adapter` keys index `unet.attn_processors` in its order.
    """
    checkpoint = projector_weights(projector)
    for index, processor in enumerate(unet.attn_processors.values()):
        if hasattr(processor, "to_k_ip"):
            checkpoint[f"ip_adapter.{index}.to_k_ip.weight"] = processor.to_k_ip[0].weight
            checkpoint[f"ip_adapter.{index}.to_v_ip.weight"] = processor.to_v_ip[0].weight
    return {key: value.detach().to(torch.float16).contiguous() for key, value in checkpoint.items()}


def without_image_prompt(unet: Any) -> Any:
    """A plain text-to-image U-Net with the remaining weights."""
    plain: Any = UNet2DConditionModel.from_config(unet.config)
    plain.load_state_dict({key: value for key, value in unet.state_dict().items() if ".processor." not in key})
    return plain


def main() -> None:
    """Assemble the pipeline in a temporary folder, then move it into place."""
    vision = CLIPVisionModelWithProjection.from_pretrained(CLIP / "image_encoder")
    text = CLIPTextModelWithProjection.from_pretrained(CLIP / "text")
    text_encoder = CLIPTextModel(text.config)
    text_encoder.load_state_dict(
        {key.removeprefix("text_model."): value for key, value in text.state_dict().items() if "projection" not in key}
    )
    projector = load_projector(vision.config.hidden_size, text.config.hidden_size)
    unet = load_unet(projector.latents.shape[1])
    parts: Any = {"scheduler": make_scheduler(load_section("unet")), "safety_checker": None}
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(WORK / "tuned_vae" / "model"),
        text_encoder=text_encoder,
        tokenizer=CLIPTokenizer.from_pretrained(CLIP / "tokenizer"),
        unet=without_image_prompt(unet),
        **parts,
        feature_extractor=CLIPImageProcessor.from_pretrained(CLIP / "feature_extractor"),
        image_encoder=vision,
        requires_safety_checker=False,
    ).to(dtype=torch.float16)

    partial = MINI.with_name("mini.partial")
    shutil.rmtree(partial, ignore_errors=True)
    pipeline.save_pretrained(partial, safe_serialization=True)
    for path in partial.rglob("*.json"):
        config = json.loads(path.read_text())
        if path.name in ("config.json", "model_index.json"):
            config.pop("_name_or_path", None)  # a local folder
            if path.parent.name in ("text_encoder", "image_encoder"):
                config["dtype"] = "float32"  # transformers loads this dtype; diffusers' parts load as float32
            path.write_text(json.dumps(config, indent=2) + "\n")
    (partial / "ip_adapter").mkdir()
    save_file(image_prompt_checkpoint(unet, projector), partial / "ip_adapter" / "ip-adapter-plus_mini.safetensors")
    (partial / "clip_projection").mkdir()
    logit_scale = json.loads((CLIP / "logit_scale.json").read_text())["logit_scale"]
    projection = {
        "text_projection.weight": text.text_projection.weight.detach().to(torch.float16),
        "logit_scale": torch.tensor(logit_scale, dtype=torch.float16),
    }
    save_file(projection, partial / "clip_projection" / "model.safetensors")

    size = sum(path.stat().st_size for path in partial.rglob("*.safetensors"))
    if size > LIMIT_BYTES:
        raise SystemExit(
            f"error: {partial}: {size / 2**20:.1f} MiB of weights, at most {LIMIT_BYTES / 2**20:.0f} expected"
        )
    shutil.rmtree(MINI, ignore_errors=True)
    partial.rename(MINI)
    print(f"{MINI}: {size / 2**20:.1f} MiB of weights")


if __name__ == "__main__":
    main()
