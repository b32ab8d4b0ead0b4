"""A contact sheet for monitoring training: the adapter's results on a few held-out pairs."""

from typing import Any

import torch
from diffusers.utils import make_image_grid
from PIL import Image

from fourdistill.inference.pipeline import FourDistillPipeline


def draw_sheet(pipe: FourDistillPipeline, batch: Any, *, num_inference_steps: int = 20, seed: int = 0) -> Image.Image:
    """One row per pair: condition | generated | truth.

    `batch` is a `shards.loader.Batch` of B pairs with its `source_images` and `target_images`.
    """
    displacement = batch.displacement.map(lambda values: values.cpu().numpy())
    sources, targets = (
        [Image.fromarray(image) for image in images.permute(0, 2, 3, 1).cpu().numpy()]
        for images in (batch.source_images, batch.target_images)
    )
    pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed + i) for i in range(len(sources))]
    steps = num_inference_steps
    generated = pipe(image=sources, num_inference_steps=steps, generator=generators, displacement=displacement).images
    rows = zip(sources, generated, targets, strict=True)
    size = sources[0].size
    return make_image_grid([image.resize(size) for row in rows for image in row], rows=len(sources), cols=3)
