"""A tiny seeded adapter for the tiny base, its every part as if trained."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fourdistill.models.adapter import Adapter
from fourdistill.models.adapter_config import AdapterSettings
from fourdistill.models.base import load_base


def build_tiny_adapter(base: Path, folder: Path, **settings: Any) -> Path:
    """Write an adapter for a base into `folder`; its image prompt and low-rank updates differ from the base's own."""
    adapter = Adapter.from_base(load_base(str(base)), AdapterSettings(**settings), torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weights in adapter.named_parameters():
            if name.startswith("image_prompt.") or name.endswith("up.weight"):
                weights += 0.1 * torch.randn(weights.shape, generator=generator)
    adapter.save(folder, {"steps": 3})
    return folder


def tiny_picture(seed: int = 0) -> Image.Image:
    """A picture of noise, 32 x 32."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8))
