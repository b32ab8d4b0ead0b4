"""The frozen base: any model in diffusers' Stable Diffusion layout, with a CLIP image encoder and an IP-Adapter Plus.

Every number about the base (layers, widths, timesteps) is read from the model.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from diffusers.image_processor import VaeImageProcessor
from diffusers.models import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0, IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import IPAdapterPlusImageProjection
from diffusers.utils import logging as diffusers_logging
from PIL import Image, ImageOps
from safetensors import SafetensorError
from torch import nn
from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection
from transformers.utils import logging as transformers_logging

from fourdistill.errors import InputError
from fourdistill.models.attention import cross_attention_names, install_processors
from fourdistill.models.precision import autocast, default_device


@dataclass(frozen=True)
class IPAdapter:
    """A base's IP-Adapter Plus: the projector, and one `to_k_ip`, `to_v_ip` per layer in execution order."""

    projector: IPAdapterPlusImageProjection
    to_k_ip: list[nn.Linear]
    to_v_ip: list[nn.Linear]


@dataclass(frozen=True)
class BaseModel:
    """The parts of a base model, frozen and in evaluation mode, processors for `Conditioning` installed."""

    name: str
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    image_encoder: CLIPVisionModelWithProjection
    feature_extractor: CLIPImageProcessor
    scheduler: Any  # any diffusers scheduler; its config is the base's noise schedule
    ip_adapter: IPAdapter | None

    def to(self, device: torch.device | str) -> "BaseModel":
        """Move all parts to `device`, in place."""
        for part in (self.unet, self.vae, self.text_encoder, self.image_encoder):
            nn.Module.to(part, device)
        return self


def load_base(
    base: str,
    ip_adapter: str | None = None,
    *,
    with_ip_adapter: bool = True,
    image_encoder: str | None = None,
    **loading: Any,
) -> BaseModel:
    """Load a base from a local folder or a Hub id.

    `ip_adapter` names its IP-Adapter Plus checkpoint (.safetensors, original key layout) as a local file or as
    `owner/repo/folder/file`; without it the one file in `<base>/ip_adapter/` is taken. `with_ip_adapter: False` skips
    it: a trained adapter brings its own image prompt. `image_encoder` is
    a CLIP vision tower, a folder or `owner/repo/folder`, for a base that has none. `loading` goes to diffusers, for a
    base on the Hub: `revision`, `variant`, `cache_dir` and the like. Raises `InputError` when something is missing.
    """
    check_folder(base)
    try:
        with quiet():
            pipe: Any = StableDiffusionPipeline.from_pretrained(
                base,
                safety_checker=None,
                requires_safety_checker=False,
                use_safetensors=True,
                dtype=torch.float32,
                **loading,
            )
            if image_encoder is not None:
                load_image_encoder(pipe, image_encoder)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{base}: expected a base in diffusers' Stable Diffusion layout: {reason}") from error
    try:
        with quiet():
            weights = load_ip_adapter(pipe, base, ip_adapter) if with_ip_adapter else None
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{ip_adapter or base}: expected an IP-Adapter Plus for {base}: {reason}") from error
    for field in ("image_encoder", "feature_extractor"):
        if getattr(pipe, field) is None:
            raise InputError(f"{base}: {field}: expected a CLIP image encoder in the model or beside its IP-Adapter")
    install_processors(pipe.unet)
    for part in (pipe.unet, pipe.vae, pipe.text_encoder, pipe.image_encoder):
        part.requires_grad_(False).eval()
    return BaseModel(
        base, pipe.unet, pipe.vae, pipe.text_encoder, pipe.tokenizer, pipe.image_encoder, pipe.feature_extractor,
        pipe.scheduler, weights,
    )  # fmt: skip


@contextmanager
def quiet() -> Iterator[None]:
    """Without the loaders' progress bars and advice; their errors still come through."""
    verbosity = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(verbosity)
        diffusers_logging.enable_progress_bar()
        transformers_logging.enable_progress_bar()


def check_folder(base: str) -> None:
    """Raise `InputError` when `base` is neither a folder with `model_index.json` nor shaped like a Hub id."""
    folder = Path(base)
    if folder.is_dir():
        if not (folder / "model_index.json").is_file():
            raise InputError(f"{base}: model_index.json: expected a model in diffusers' Stable Diffusion layout")
    elif not re.fullmatch(r"[\w.-]+/[\w.-]+", base) or folder.parent.is_dir():
        raise InputError(f"{base}: expected a model folder in diffusers' Stable Diffusion layout, or a Hub id")


def load_image_encoder(pipe: Any, name: str) -> None:
    """Give a pipeline the CLIP vision tower of a folder or of `owner/repo/folder`, and a processor for it."""
    folder, parts = Path(name), name.split("/")
    source = (name, "") if folder.is_dir() else ("/".join(parts[:2]), "/".join(parts[2:]))
    encoder = CLIPVisionModelWithProjection.from_pretrained(source[0], subfolder=source[1], use_safetensors=True)
    size: Any = encoder.config.image_size
    processor = pipe.feature_extractor or CLIPImageProcessor(size={"shortest_edge": size}, crop_size=size)
    pipe.register_modules(image_encoder=encoder, feature_extractor=processor)


def load_ip_adapter(pipe: Any, base: str, ip_adapter: str | None) -> IPAdapter:
    """Load the checkpoint by diffusers' own loader, then take its modules out and leave the U-Net stock."""
    path = Path(ip_adapter) if ip_adapter else find_ip_adapter(base)
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: expected an IP-Adapter Plus checkpoint as .safetensors")
    if path.is_file():
        source, subfolder = path.parent.as_posix(), ""
    else:  # owner/repo/folder/file on the Hub
        owner, repo, *folders = path.parts[:-1] if len(path.parts) > 2 else ("", "", "")
        if not owner or path.is_absolute():
            raise InputError(f"{path}: expected an IP-Adapter Plus checkpoint, there is no such file")
        source, subfolder = f"{owner}/{repo}", "/".join(folders)
    if pipe.image_encoder is None:  # diffusers' loader would take a pickled one too
        folder = f"{subfolder}/image_encoder".removeprefix("/")
        encoder = CLIPVisionModelWithProjection.from_pretrained(source, subfolder=folder, use_safetensors=True)
        pipe.register_modules(image_encoder=encoder)
    pipe.load_ip_adapter(
        source, subfolder=subfolder, weight_name=path.name, image_encoder_folder=None, low_cpu_mem_usage=False
    )
    weights = take_ip_adapter(pipe.unet, path)
    image_encoder, feature_extractor = pipe.image_encoder, pipe.feature_extractor
    pipe.unload_ip_adapter()
    pipe.register_modules(image_encoder=image_encoder, feature_extractor=feature_extractor)
    return weights


def find_ip_adapter(base: str) -> Path:
    """The checkpoint that a local base ships: the only .safetensors in its `ip_adapter/`."""
    files = sorted((Path(base) / "ip_adapter").glob("*.safetensors"))
    if len(files) != 1:
        raise InputError(f"{base}/ip_adapter: expected one IP-Adapter Plus checkpoint, found {len(files)} .safetensors")
    return files[0]


def take_ip_adapter(unet: Any, path: Path) -> IPAdapter:
    """The IP-Adapter that diffusers put into a U-Net, its layers looked up by name in execution order.

    Checkpoint keys count layers down, up, mid; diffusers has bound them to names, which are safe.
    """
    projector = unet.encoder_hid_proj.image_projection_layers[0]
    if not isinstance(projector, IPAdapterPlusImageProjection):
        raise InputError(f"{path}: expected an IP-Adapter of the kind Plus, found {type(projector).__name__}")
    processors = unet.attn_processors
    found = [processors[f"{name}.processor"] for name in cross_attention_names(unet)]
    assert all(isinstance(processor, IPAdapterAttnProcessor2_0) for processor in found)
    return IPAdapter(
        projector,
        [processor.to_k_ip[0] for processor in found],
        [processor.to_v_ip[0] for processor in found],
    )


@torch.no_grad()
def encode_latents(vae: AutoencoderKL, images: list[Image.Image]) -> torch.Tensor:
    """N images of one size => scaled latents (N, C, H/f, W/f): the posterior's mean times the scaling factor."""
    processor = VaeImageProcessor(vae_scale_factor=2 ** (len(vae.config["block_out_channels"]) - 1))
    pixel_values = processor.preprocess(images).to(vae.device, vae.dtype)  # (N, 3, H, W) in [-1, 1]
    pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)  # as `FrameEncoder` lays out the weights
    return vae.encode(pixel_values, return_dict=False)[0].mean * vae.config["scaling_factor"]


@torch.no_grad()
def encode_image_prompt(
    image_encoder: CLIPVisionModelWithProjection, feature_extractor: CLIPImageProcessor, images: list[Image.Image]
) -> torch.Tensor:
    """N images => image embeddings (N, S, D): the image encoder's penultimate hidden states, class token included."""
    pixel_values = feature_extractor(images=images, return_tensors="pt").pixel_values  # (N, 3, h, w)
    pixel_values = pixel_values.to(image_encoder.device, image_encoder.dtype)
    return image_encoder(pixel_values, output_hidden_states=True).hidden_states[-2]


@torch.no_grad()
def encode_null_image(image_encoder: CLIPVisionModelWithProjection) -> torch.Tensor:
    """What stands for no image prompt, (1, S, D): the embeddings of all-zero pixel values, as diffusers has it."""
    size: Any = image_encoder.config.image_size
    pixel_values = torch.zeros(1, 3, size, size, device=image_encoder.device, dtype=image_encoder.dtype)
    return image_encoder(pixel_values, output_hidden_states=True).hidden_states[-2]


def encode_frames(
    base: BaseModel, images: list[Image.Image], mixed_precision: str = "no", mirror: bool = False
) -> dict[str, np.ndarray]:
    """N frames of one size => what is cached per frame: `latents` (N, C, h, w), `image_embeds` (N, S, D), fp16.

    With `mirror` also `mirrored_embeds` (N, S, D), of the mirror images.
    """
    with autocast(mixed_precision, base.vae.device):
        features = {
            "latents": encode_latents(base.vae, images),
            "image_embeds": encode_image_prompt(base.image_encoder, base.feature_extractor, images),
        }
        if mirror:
            mirrored = [ImageOps.mirror(image) for image in images]
            features["mirrored_embeds"] = encode_image_prompt(base.image_encoder, base.feature_extractor, mirrored)
    return {name: value.half().cpu().numpy() for name, value in features.items()}


def restore_stock_processors(unet: UNet2DConditionModel) -> None:
    """Undo `install_processors`: the U-Net takes plain prompt tensors by diffusers' own code again."""
    unet.set_attn_processor(AttnProcessor2_0())


@dataclass(frozen=True)
class FrameEncoder:
    """Frames => their features, see `encode_frames`; small enough to be sent to other processes and machines."""

    base: str  # loaded by every worker process for itself, once
    mixed_precision: str = "no"
    mirror: bool = False

    def __call__(self, images: list[Image.Image]) -> dict[str, np.ndarray]:
        """N frames of one size => arrays of N rows."""
        return encode_frames(_load(self.base), images, self.mixed_precision, self.mirror)


@lru_cache(maxsize=1)
def _load(base: str) -> BaseModel:
    """The base on this process's device, without its IP-Adapter; the VAE laid out as its convolutions like it."""
    loaded = load_base(base, with_ip_adapter=False).to(default_device())
    nn.Module.to(loaded.vae, memory_format=torch.channels_last)
    return loaded
