"""Stage `encode`: compute VAE latents and image-prompt features of every frame, stored as memory-mapped arrays."""

from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from frames import Frames
from tqdm import tqdm
from train_clip import clip_pixels, make_processor
from transformers import CLIPVisionModelWithProjection
from work import WORK

from fourdistill.models.base.precision import autocast, default_device

BATCH_SIZE = 64


def main() -> None:
    """Write `latents.npy` (N, C, h, w), `image_embeds.npy` (N, T, D), fp16, and `null_image_embeds.npy` (T, D)."""
    frames, device = Frames.load(), default_device()
    vae: Any = AutoencoderKL.from_pretrained(WORK / "vae" / "model")
    vae.to(device).eval()
    vision: Any = CLIPVisionModelWithProjection.from_pretrained(WORK / "clip" / "model" / "image_encoder").eval()
    vision.to(device)
    processor = make_processor()
    out = WORK / "encoded"
    out.mkdir(parents=True, exist_ok=True)

    arrays: dict[str, np.memmap] = {}
    with torch.no_grad(), autocast("auto", device):
        zeros = torch.zeros(1, 3, *frames.pixels.shape[1:3], device=device)
        null = vision(pixel_values=zeros, output_hidden_states=True).hidden_states[-2][0]
        np.save(out / "null_image_embeds.npy", null.to("cpu", torch.float16).numpy())
        for start in tqdm(range(0, len(frames.pixels), BATCH_SIZE), desc="encode", mininterval=10):
            rows = np.arange(start, min(start + BATCH_SIZE, len(frames.pixels)))
            pixels = frames.batch(rows).to(device)
            latents = vae.encode(pixels).latent_dist.mean.float() * vae.config.scaling_factor
            hidden = vision(pixel_values=clip_pixels(pixels, processor), output_hidden_states=True).hidden_states[-2]
            for name, values in {"latents": latents, "image_embeds": hidden}.items():
                if name not in arrays:
                    shape = (len(frames.pixels), *values.shape[1:])
                    path = out / f"{name}.partial.npy"
                    arrays[name] = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
                arrays[name][rows] = values.to("cpu", torch.float16).numpy()
    for name, array in arrays.items():
        array.flush()
        (out / f"{name}.partial.npy").replace(out / f"{name}.npy")


if __name__ == "__main__":
    main()
