"""The frozen base: any model in diffusers' Stable Diffusion layout, with a CLIP image encoder and an IP-Adapter Plus.

Every number about the base (layers, widths, timesteps) is read from the model.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from diffusers.image_processor import VaeImageProcessor
from diffusers.models import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0, IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import IPAdapterPlusImageProjection
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from safetensors import SafetensorError
from torch import nn
from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection
from transformers.utils import logging as transformers_logging

from fourdistill.errors import InputError, one_line
from fourdistill.models.attention import cross_attention_names, install_processors
from fourdistill.models.base.find import Found, find_base, find_checkpoint, find_image_encoder
from fourdistill.models.base.folder import EXPECTED
from fourdistill.models.base.hub import OPTIONS
from fourdistill.models.base.ip_adapter import check_fits, nested, read_ip_adapter

LOADERS: dict[str, Any] = {  # for the parts that have weights
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "image_encoder": CLIPVisionModelWithProjection,
}


@dataclass(frozen=True)
class IPAdapter:
    """A base's IP-Adapter Plus: the projector, and one `to_k_ip`, `to_v_ip` per layer in execution order."""

    projector: IPAdapterPlusImageProjection
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
    variant: str | None = None,
    **loading: Any,
) -> BaseModel:
    """Load a base from a local folder or a Hub id, in float32.

    `ip_adapter` names its IP-Adapter Plus checkpoint (see `models.ip_adapter`) as a local file or as
    `owner/repo/folder/file`; by default the only file in `<base>/ip_adapter/` is used. `with_ip_adapter: False` skips
    it: a trained adapter has its own image prompt. `image_encoder` is a CLIP vision tower, a folder or
    `owner/repo/folder`, for a base without one. `variant` (such as fp16) selects among several variants of weights; it
    is not needed for a part with a single variant. `loading` is passed to the Hub (`models.hub.OPTIONS`; the `revision`
    is the base's) and to diffusers. Raises `InputError` before loading if the base is of another kind or incomplete.
    """
    hub = {name: loading.pop(name) for name in OPTIONS if name in loading}
    folder, variants = find_base(base, variant, **hub)
    checkpoint = find_checkpoint(base, ip_adapter, **hub) if with_ip_adapter else None
    weights = None if checkpoint is None else read_ip_adapter(checkpoint)
    encoder = find_image_encoder(variants, base, image_encoder, ip_adapter or checkpoint, variant, **hub)
    try:
        with quiet():
            pipe = load_parts(folder, variants, encoder, loading)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = one_line(error)
        raise InputError(f"{base}: {EXPECTED}: {reason}") from error
    adapter = None
    if checkpoint is not None and weights is not None:
        check_fits(checkpoint, weights, pipe.unet, pipe.image_encoder.config.hidden_size, base)
        with quiet():
            adapter = bind_ip_adapter(pipe, weights)
    install_processors(pipe.unet)
    for part in (pipe.unet, pipe.vae, pipe.text_encoder, pipe.image_encoder):
        part.requires_grad_(False).eval()
    return BaseModel(
        base, pipe.unet, pipe.vae, pipe.text_encoder, pipe.tokenizer, pipe.image_encoder, pipe.feature_extractor,
        pipe.scheduler, adapter,
    )  # fmt: skip


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the loaders' progress bars, advice and duplicated errors: an error is one line, printed by us."""
    levels = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    diffusers_logging.set_verbosity(diffusers_logging.CRITICAL)
    transformers_logging.set_verbosity(transformers_logging.CRITICAL)
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        diffusers_logging.set_verbosity(levels[0])
        transformers_logging.set_verbosity(levels[1])
        diffusers_logging.enable_progress_bar()
        transformers_logging.enable_progress_bar()


def load_parts(folder: Path, variants: dict[str, str | None], encoder: Found | None, loading: dict[str, Any]) -> Any:
    """A stock pipeline from a checked folder, each part in its variant."""
    options: dict[str, Any] = {"use_safetensors": True, "dtype": torch.float32}
    parts: dict[str, Any] = {"safety_checker": None, "requires_safety_checker": False}
    for name, variant in variants.items():
        if variant is not None:
            parts[name] = LOADERS[name].from_pretrained(folder / name, variant=variant, **options)
    if encoder is not None:
        parts["image_encoder"] = LOADERS["image_encoder"].from_pretrained(
            encoder.folder, variant=encoder.variant, **options
        )
    pipe: Any = StableDiffusionPipeline.from_pretrained(folder, **options, **parts, **loading)
    if pipe.feature_extractor is None:
        size: Any = pipe.image_encoder.config.image_size
        pipe.register_modules(feature_extractor=CLIPImageProcessor(size={"shortest_edge": size}, crop_size=size))
    return pipe


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
    projector = unet.encoder_hid_proj.image_projection_layers[0]
    assert isinstance(projector, IPAdapterPlusImageProjection)
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
    pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)  # the layout of `FrameEncoder`'s weights
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
    """The null image prompt, (1, S, D): the embeddings of all-zero pixel values, as in diffusers."""
    size: Any = image_encoder.config.image_size
    pixel_values = torch.zeros(1, 3, size, size, device=image_encoder.device, dtype=image_encoder.dtype)
    return image_encoder(pixel_values, output_hidden_states=True).hidden_states[-2]


def restore_stock_processors(unet: UNet2DConditionModel) -> None:
    """Undo `install_processors`: the U-Net takes plain prompt tensors with diffusers' own code again."""
    unet.set_attn_processor(AttnProcessor2_0())
