"""Stage `tune_decoder`: continue training the autoencoder's decoder alone, on the latents of whole pictures.

The encoder stays, so latents keep their meaning: the U-Net and whatever else was trained on them fit the new decoder.
Stable Diffusion's decoder was improved in this way, too (huggingface.co/stabilityai/sd-vae-ft-mse).
"""

from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from frames import Frames
from task import fit
from torch import nn
from train_vae import reconstruction_loss
from work import WORK, digest, load_section

OUT = WORK / "tuned_vae"


class Decoder(nn.Module):
    """The part of an autoencoder after the latents."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.post_quant_conv, self.decoder = vae.post_quant_conv, vae.decoder

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Unscaled latents (B, C, h, w) => pixel values (B, 3, H, W)."""
        return self.decoder(self.post_quant_conv(latents))


def main() -> None:
    """Train, and save the whole autoencoder to the work folder."""
    params, vae_params, seed = load_section("tune_decoder"), load_section("vae"), load_section("seed")
    frames = Frames.load()
    train = np.flatnonzero(~frames.is_val)
    latents = np.load(WORK / "encoded" / "latents.npy", mmap_mode="r")
    vae: Any = AutoencoderKL.from_pretrained(WORK / "vae" / "model")

    def draw(step, generator):
        rng = np.random.default_rng(generator.initial_seed())
        indices = np.sort(rng.choice(train, params["batch_size"], replace=False))
        return frames.batch(indices), torch.from_numpy(latents[indices]).float() / vae.config.scaling_factor

    def compute_loss(model, pixels, latents):
        return reconstruction_loss(model(latents).float(), pixels, vae_params)

    fit(
        Decoder(vae),
        draw,
        compute_loss,
        OUT,
        steps=params["steps"],
        batch_size=params["batch_size"],
        learning_rate=params["learning_rate"],
        seed=seed,
        save_every=200,
        belongs_to=[params, vae_params, digest(WORK / "frames" / "pixels.npy", WORK / "encoded" / "latents.npy")],
    )
    vae.save_pretrained(OUT / "model")


if __name__ == "__main__":
    main()
