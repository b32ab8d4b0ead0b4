"""The frozen base: Stable Diffusion 1.x, 2.x or XL, with a CLIP image encoder and an IP-Adapter.

Every number about the base (layers, widths, timesteps) is read from the model.
"""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.models import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0, IPAdapterAttnProcessor2_0
from PIL import Image
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)

from fourdistill.errors import InputError, one_line
from fourdistill.models.attention import cross_attention_names, install_processors
from fourdistill.models.base.find import find_base, find_checkpoint, find_image_encoder, own_checkpoints
from fourdistill.models.base.folder import EXPECTED
from fourdistill.models.base.hub import OPTIONS
from fourdistill.models.base.ip_adapter import fit, is_original, is_original_file, nested, read_ip_adapter
from fourdistill.models.base.parts import ERRORS, load_parts, quiet
from fourdistill.models.base.projectors import Projector


@dataclass(frozen=True)
class IPAdapter:
    """A base's IP-Adapter: the projector, and one `to_k_ip`, `to_v_ip` per layer in execution order."""

    projector: Projector
    to_k_ip: list[nn.Linear]
    to_v_ip: list[nn.Linear]


@dataclass(frozen=True)
class BaseModel:
    """The parts of a base model, frozen and in evaluation mode, with processors for `Conditioning` installed."""

    name: str
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    image_encoder: CLIPVisionModelWithProjection
    feature_extractor: CLIPImageProcessor
    scheduler: Any  # any diffusers scheduler; its config is the base's noise schedule
    ip_adapter: IPAdapter | None
    text_encoder_2: CLIPTextModelWithProjection | None = None  # of SDXL, as is the tokenizer
    tokenizer_2: CLIPTokenizer | None = None
    zero_empty_prompt: bool = False  # no prompt is all zeros, not the encoding of ""
    reads_projection: bool = False  # the IP-Adapter in its folder is an original one: see `projectors`

    def to(self, device: torch.device | str) -> "BaseModel":
        """Move all parts to `device`, in place."""
        for part in self.models():
            nn.Module.to(part, device)
        return self

    def models(self) -> list[nn.Module]:
        """The parts with weights."""
        parts = (self.unet, self.vae, self.text_encoder, self.text_encoder_2, self.image_encoder)
        return [part for part in parts if part is not None]


def load_base(
    base: str,
    ip_adapter: str | None = None,
    *,
    with_ip_adapter: bool = True,
    image_encoder: str | None = None,
    variant: str | None = None,
    config: str | None = None,
    dtype: torch.dtype = torch.float32,
    **loading: Any,
) -> BaseModel:
    """Load a base from a local folder, a Hub id, or a whole checkpoint in one file.

    `ip_adapter` names its IP-Adapter checkpoint (see `models.base.ip_adapter`) as a local file or as
    `owner/repo/folder/file`; by default the only file in `<base>/ip_adapter/` is used. `with_ip_adapter: False` skips
    it: a trained adapter has its own image prompt. `image_encoder` is a CLIP vision tower, a folder or
    `owner/repo/folder`, for a base without one. `variant` (such as fp16) selects among several variants of weights; it
    is not needed for a part with a single variant. `config` is the folder of a single file's configurations, by default
    the folder where the file lies. Weights of any precision are loaded in `dtype`. `loading` is passed to the Hub
    (`models.base.hub.OPTIONS`; the `revision` is the base's) and to diffusers. Raises `InputError` before loading if
    the base is of another kind or incomplete.
    """
    if "controlnet" in loading:
        raise InputError("controlnet: expected none: ControlNet is left to diffusers' own pipelines")
    hub = {name: loading.pop(name) for name in OPTIONS if name in loading}
    found = find_base(base, variant, config, **hub)
    checkpoint = find_checkpoint(found, base, ip_adapter, **hub) if with_ip_adapter else None
    weights = None if checkpoint is None else read_ip_adapter(checkpoint)
    encoder = find_image_encoder(found, base, image_encoder, ip_adapter or checkpoint, variant, **hub)
    try:
        with quiet():
            pipe = load_parts(found, encoder, dtype, loading)
    except ERRORS as error:
        reason = one_line(error)
        raise InputError(f"{base}: {EXPECTED}: {reason}") from error
    adapter = None
    if checkpoint is not None and weights is not None:
        weights = fit(checkpoint, weights, pipe.unet, pipe.image_encoder.config, base)
        with quiet():
            adapter = bind_ip_adapter(pipe, weights)
    own = own_checkpoints(found)
    original = is_original(weights) if weights else len(own) == 1 and is_original_file(own[0])
    return as_base(base, pipe, adapter, reads_projection=original)


def as_base(name: str, pipe: Any, ip_adapter: IPAdapter | None, *, reads_projection: bool = False) -> BaseModel:
    """The parts of a stock pipeline with an image encoder as a base: frozen, with processors installed."""
    install_processors(pipe.unet)
    zero_empty = bool(pipe.config.get("force_zeros_for_empty_prompt"))
    names = ("unet", "vae", "text_encoder", "tokenizer", "image_encoder", "feature_extractor", "scheduler")
    parts = {part: getattr(pipe, part) for part in names}
    second = {part: pipe.components.get(part) for part in ("text_encoder_2", "tokenizer_2")}
    facts: dict[str, Any] = {"zero_empty_prompt": zero_empty, "reads_projection": reads_projection}
    base = BaseModel(name, **parts, **second, ip_adapter=ip_adapter, **facts)
    for part in base.models():
        part.requires_grad_(False).eval()
    return base


def bind_ip_adapter(pipe: Any, weights: dict[str, torch.Tensor]) -> IPAdapter:
    """Bind weights to layers with diffusers' loader, then extract its modules and restore the stock U-Net."""
    pipe.load_ip_adapter(
        nested(weights), subfolder="", weight_name="", image_encoder_folder=None, low_cpu_mem_usage=False
    )
    bound = take_ip_adapter(pipe.unet)
    image_encoder, feature_extractor = pipe.image_encoder, pipe.feature_extractor
    pipe.unload_ip_adapter()
    pipe.register_modules(image_encoder=image_encoder, feature_extractor=feature_extractor)
    return bound


def take_ip_adapter(unet: Any) -> IPAdapter:
    """The IP-Adapter that diffusers loaded into a U-Net, its layers looked up by name in execution order.

    Checkpoint keys count layers in the order down, up, mid; diffusers has bound them to names, which are unambiguous.
    """
    projector: Projector = unet.encoder_hid_proj.image_projection_layers[0]
    processors = unet.attn_processors
    found = [processors[f"{name}.processor"] for name in cross_attention_names(unet)]
    assert all(isinstance(processor, IPAdapterAttnProcessor2_0) for processor in found)
    return IPAdapter(
        projector,
        [processor.to_k_ip[0] for processor in found],
        [processor.to_v_ip[0] for processor in found],
    )


def vae_scale_factor(vae: AutoencoderKL) -> int:
    """Pixels per latent, along each side."""
    return 2 ** (len(vae.config["block_out_channels"]) - 1)


def image_size(unet: UNet2DConditionModel, vae: AutoencoderKL) -> int:
    """The side of a base's images, in pixels."""
    return int(unet.config["sample_size"]) * vae_scale_factor(vae)


@torch.no_grad()
def encode_latents(vae: AutoencoderKL, images: list[Image.Image]) -> torch.Tensor:
    """N images of one size => scaled latents (N, C, H/f, W/f): the posterior's mean times the scaling factor."""
    processor = VaeImageProcessor(vae_scale_factor=vae_scale_factor(vae))
    pixel_values = processor.preprocess(images).to(vae.device, vae.dtype)  # (N, 3, H, W) in [-1, 1]
    pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)  # the layout of `FrameEncoder`'s weights
    return vae.encode(pixel_values, return_dict=False)[0].mean * vae.config["scaling_factor"]


@torch.no_grad()
def encode_image_prompt(
    image_encoder: CLIPVisionModelWithProjection,
    feature_extractor: CLIPImageProcessor,
    images: list[Image.Image],
    projected: bool = False,
) -> torch.Tensor:
    """N images => image embeddings (N, S, D): the image encoder's penultimate hidden states, class token included.

    `projected`: its projected output (N, 1, D) instead, which the original IP-Adapter reads.
    """
    pixel_values = feature_extractor(images=images, return_tensors="pt").pixel_values  # (N, 3, h, w)
    pixel_values = pixel_values.to(image_encoder.device, image_encoder.dtype)
    if projected:
        return image_encoder(pixel_values).image_embeds[:, None]
    return image_encoder(pixel_values, output_hidden_states=True).hidden_states[-2]


@torch.no_grad()
def encode_null_image(image_encoder: CLIPVisionModelWithProjection, projected: bool = False) -> torch.Tensor:
    """The null image prompt as in diffusers, (1, S, D): the embeddings of all-zero pixel values.

    `projected`: zeros, (1, 1, D).
    """
    size: Any = image_encoder.config.image_size
    like = {"device": image_encoder.device, "dtype": image_encoder.dtype}
    if projected:
        return torch.zeros(1, 1, image_encoder.config.projection_dim, **like)
    pixel_values = torch.zeros(1, 3, size, size, **like)
    return image_encoder(pixel_values, output_hidden_states=True).hidden_states[-2]


def restore_stock_processors(unet: UNet2DConditionModel) -> None:
    """Undo `install_processors`: the U-Net takes plain prompt tensors with diffusers' own code again."""
    unet.set_attn_processor(AttnProcessor2_0())
