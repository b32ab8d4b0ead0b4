"""A tiny seeded adapter for the tiny base, with weights as if trained."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from stage_settings import adapter_settings, prior_config

from fourdistill.models.adapter import Adapter
from fourdistill.models.base.model import BaseModel, load_base
from fourdistill.models.codec import fit_codec
from fourdistill.models.prior import DisplacementPrior

TOKENS, WIDTH = 17, 32  # S, D of the tiny base's image embeddings


def tiny_prior(view_encoding: str = "spherical") -> DisplacementPrior:
    """A random prior, in which every displacement changes the embeddings."""
    generator = torch.Generator().manual_seed(0)
    form = prior_config(
        TOKENS, WIDTH, num_components=6, view_encoding=view_encoding, width=16, depth=1, num_rotations=8
    )
    prior = DisplacementPrior(form, generator)
    embeds = torch.randn(40, TOKENS, WIDTH, generator=generator)
    prior.codec.load_state_dict(fit_codec(embeds, form.num_components, seed=0).state_dict())
    return prior


def start_tiny_adapter(base: BaseModel, **settings: Any) -> Adapter:
    """An adapter as a training begins with it, with a prior where its settings want one."""
    form = adapter_settings(**settings)
    return Adapter.from_base(base, form, torch.Generator().manual_seed(0), tiny_prior(form.view_encoding))


def build_tiny_adapter(base: Path, folder: Path, **settings: Any) -> Path:
    """Write an adapter for a base into `folder`; its mapper and image prompt differ from their initial weights."""
    adapter = start_tiny_adapter(load_base(str(base)), **settings)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for part in (adapter.mapper, adapter.image_prompt):
            for weights in part.parameters():
                weights += 0.1 * torch.randn(weights.shape, generator=generator)
    adapter.save(folder, {"steps": 3})
    return folder


def tiny_picture(seed: int = 0) -> Image.Image:
    """A picture of noise, 32 x 32."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8))
