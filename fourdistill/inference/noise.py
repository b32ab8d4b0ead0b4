"""The initial noise of an image, from its own generator, so that it does not depend on the batch."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models import UNet2DConditionModel
from diffusers.utils.torch_utils import randn_tensor

from fourdistill.errors import InputError

Generators = torch.Generator | list[torch.Generator] | None


def make_generators(
    generator: Generators, seeds: Sequence[int | None], num_images_per_prompt: int
) -> torch.Generator | list[torch.Generator] | None:
    """The generators of a batch: as given, or one for each image from its seed.

    The k-th of the `num_images_per_prompt` images of one seed uses seed + k. Generators are on the CPU, so that a seed
    gives the same noise on every device. Raises `InputError`.
    """
    given = [seed for seed in seeds if seed is not None]
    if generator is not None and given:
        raise InputError("seed: expected no generator beside it")
    if isinstance(generator, list):
        if len(generator) not in (1, len(seeds)):
            raise InputError(f"generator: expected 1 or {len(seeds)} generators, got {len(generator)}")
        return generator[0] if len(generator) == 1 else generator
    if not given:
        return generator
    if len(given) < len(seeds) or not all(isinstance(seed, int) and 0 <= seed < 2**63 for seed in given):
        raise InputError(f"seed: expected whole numbers from 0, got {list(seeds)}")
    return [torch.Generator().manual_seed(seed + i % num_images_per_prompt) for i, seed in enumerate(given)]


def prepare_noise(
    unet: UNet2DConditionModel,
    num: int,
    generator: Generators,
    latents: torch.Tensor | None,
    device: torch.device,
) -> torch.Tensor:
    """Standard normal noise (num, C, h, w): as given, or drawn in float32 for any dtype of the U-Net."""
    size = unet.config["sample_size"]
    shape = (num, unet.config["in_channels"], size, size)
    if latents is None:
        latents = randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
    if latents.shape[1:] != shape[1:] or len(latents) not in (1, num):
        raise InputError(f"latents: expected shape {shape}, got {tuple(latents.shape)}")
    return latents.to(device, unet.dtype).expand(shape)


def select(generator: Generators, rows: slice) -> Any:
    """The generators of some images of a batch."""
    return generator[rows] if isinstance(generator, list) else generator
