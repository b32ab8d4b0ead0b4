"""Frames to features with the frozen base: VAE latents, and image embeddings of every augmentation."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image

from fourdistill.features.augmentations import PLAIN, Augmentation
from fourdistill.models.base.model import BaseModel, encode_image_prompt, encode_latents, load_base
from fourdistill.models.base.precision import autocast, default_device


def encode_images(
    base: BaseModel,
    images: list[Image.Image],
    mixed_precision: str = "no",
    changes: Sequence[Augmentation] = (PLAIN,),
) -> dict[str, np.ndarray]:
    """N frames of one size => cached features: `latents` (N, C, h, w), `image_embeds` (N, S, D), fp16.

    Each of `changes` adds the embeddings (N, S, D) of the changed frames under its own name.
    """
    with autocast(mixed_precision, base.vae.device):
        features = {"latents": encode_latents(base.vae, images)}
        for change in changes:
            changed = [change(image) for image in images]
            encoders = base.image_encoder, base.feature_extractor
            features[change.feature] = encode_image_prompt(*encoders, changed, base.reads_projection)
    return {name: value.half().cpu().numpy() for name, value in features.items()}


@dataclass(frozen=True)
class FrameEncoder:
    """Frames => their features, see `encode_images`; cheap to send to other processes and machines."""

    base: str  # loaded once by every worker process
    mixed_precision: str = "no"
    changes: tuple[Augmentation, ...] = (PLAIN,)

    def __call__(self, images: list[Image.Image]) -> dict[str, np.ndarray]:
        """N frames of one size => arrays of N rows."""
        return encode_images(_load(self.base), images, self.mixed_precision, self.changes)


@lru_cache(maxsize=1)
def _load(base: str) -> BaseModel:
    """The base on this process's device, without its IP-Adapter; the VAE in channels-last layout for speed."""
    loaded = load_base(base, with_ip_adapter=False).to(default_device())
    vae: Any = loaded.vae
    vae.to(memory_format=torch.channels_last)
    return loaded
