"""A contact sheet for watching a training: what the adapter makes of a few held-out pairs."""

from typing import Any

import torch
from diffusers.utils import make_image_grid
from PIL import Image

from fourdistill.inference.pipeline import FourDistillPipeline


def draw_sheet(
    pipe: FourDistillPipeline,
    image_embeds: torch.Tensor,
    target_latents: torch.Tensor,
    displacement: dict[str, Any],
    *,
    num_inference_steps: int = 20,
    seed: int = 0,
) -> Image.Image:
    """One row per pair: generated without displacement | generated with it | the truth through the VAE.

    image_embeds (B, S, D) of the condition images, target_latents (B, C, h, w), `displacement` the keyword arguments
    of the pipeline (`time`, `azimuth`, ...). Both generated columns start from the same noise.
    """
    count = len(image_embeds)
    pipe.set_progress_bar_config(disable=True)
    columns = []
    for arguments in ({}, displacement):
        generators = [torch.Generator().manual_seed(seed + i) for i in range(count)]
        columns.append(
            pipe(
                image_embeds=image_embeds,
                num_inference_steps=num_inference_steps,
                generator=generators,
                **arguments,
            ).images
        )
    with torch.no_grad():
        columns.append(pipe.decode(target_latents.to(pipe.device, pipe.unet.dtype), "pil"))
    return make_image_grid([image for row in zip(*columns, strict=True) for image in row], rows=count, cols=3)
