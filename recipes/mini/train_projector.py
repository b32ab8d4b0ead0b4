"""Stage `train_projector`: train the image prompt's projector before the U-Net.

IP-Adapter Plus's resampler turns the image embeddings into a few tokens. Trained by the U-Net's loss alone, they never
encoded positions, and cross-attention cannot attend to a position that no token encodes: after 5,000 steps the pictures
had the prompt's colours but not its pose. So each token is assigned a cell of the picture here: linear heads must
reconstruct the cell's latents and position from it. The heads are discarded afterwards.

Error of a new U-Net at t = 999 with an unseen prompt (mean picture: 0.42), after 200 steps of batch 32: 0.17 with these
tokens, 0.40 without. An additional loss on the U-Net's attention gave 0.16 and was left out.
"""

from typing import Any

import numpy as np
import torch
from diffusers.models.embeddings import IPAdapterPlusImageProjection
from frames import Frames
from safetensors.torch import load_file, save_file
from task import fit
from torch import nn
from torch.nn import functional as F
from train_clip import sincos_grid
from work import WORK, digest, load_section

OUT = WORK / "projector" / "model.safetensors"


def build_projector(image_width: int, width: int, params: dict) -> IPAdapterPlusImageProjection:
    """A resampler with one query for each cell of a square grid, initialised to the cell's position code."""
    projector = IPAdapterPlusImageProjection(
        embed_dims=image_width,
        output_dims=width,
        hidden_dims=width,
        depth=params["depth"],
        dim_head=64,  # diffusers' loader divides by 64 to get the number of heads
        heads=width // 64,
        num_queries=params["grid"] ** 2,
    )
    with torch.no_grad():
        projector.latents.copy_(sincos_grid(params["grid"], width)[None])
    return projector


def load_projector(image_width: int, width: int) -> IPAdapterPlusImageProjection:
    """The trained projector, frozen."""
    projector = build_projector(image_width, width, load_section("projector"))
    projector.load_state_dict(load_file(OUT))
    return projector.requires_grad_(False).eval()


class PlacedTokens(nn.Module):
    """The projector and the two heads that read its tokens."""

    def __init__(self, projector: IPAdapterPlusImageProjection, width: int, latents_per_cell: int) -> None:
        super().__init__()
        self.projector = projector
        self.what = nn.Linear(width, latents_per_cell)
        self.where = nn.Linear(width, projector.latents.shape[1])

    def forward(self, image_embeds: torch.Tensor, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Image embeddings (B, S, D), latents (B, C, h, w) => losses of the cells' latents () and positions ()."""
        tokens = self.projector(image_embeds)  # (B, T, width)
        num_tokens = tokens.shape[1]
        size = latents.shape[-1] // round(num_tokens**0.5)
        cells = F.unfold(latents, size, stride=size).transpose(1, 2)  # (B, T, C * size * size)
        places = self.where(tokens).float()  # (B, T, T)
        place = torch.arange(num_tokens, device=tokens.device).expand(len(tokens), -1)  # (B, T)
        return F.mse_loss(self.what(tokens).float(), cells), F.cross_entropy(places.flatten(0, 1), place.flatten())


def main() -> None:
    """Train the projector on the encoded frames and save its weights to the work folder."""
    params, seed, width = load_section("projector"), load_section("seed"), load_section("clip")["width"]
    train = np.flatnonzero(~Frames.load().is_val)
    latents = np.load(WORK / "encoded" / "latents.npy", mmap_mode="r")
    image_embeds = np.load(WORK / "encoded" / "image_embeds.npy", mmap_mode="r")
    torch.manual_seed(seed)  # initial weights
    cell = latents.shape[-1] // params["grid"]
    model = PlacedTokens(build_projector(image_embeds.shape[-1], width, params), width, latents.shape[1] * cell**2)

    def draw(step, generator):
        rng = np.random.default_rng(generator.initial_seed())
        indices = np.sort(rng.choice(train, params["batch_size"], replace=False))
        return tuple(torch.from_numpy(array[indices]).float() for array in (image_embeds, latents))

    def compute_loss(model, embeds, x):
        what, where = model(embeds, x)
        return what + params["place_weight"] * where, {"what": what.item(), "where": where.item()}

    trained: Any = fit(
        model,
        draw,
        compute_loss,
        WORK / "projector",
        steps=params["steps"],
        batch_size=params["batch_size"],
        learning_rate=params["learning_rate"],
        seed=seed,
        warmup_steps=50,
        belongs_to=[params, digest(*sorted((WORK / "encoded").glob("*.npy")))],
    )
    save_file(trained.projector.state_dict(), OUT)


if __name__ == "__main__":
    main()
