"""Stage `train_vae`: train an autoencoder of 128×128 pictures, with latents eight times smaller on each side.

Most steps use crops around the subject, which cost a quarter of a picture. The last steps use whole pictures, because
group norm statistics of a crop differ from those of the whole pictures that the model is used on.
"""

from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from frames import Frames
from task import fit
from work import WORK, digest, load_section


def build(params: dict) -> Any:
    """An `AutoencoderKL` with one downsampling per level, except the last."""
    levels = len(params["block_out_channels"])
    types: Any = {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
    }
    return AutoencoderKL(
        **types,
        block_out_channels=tuple(params["block_out_channels"]),
        layers_per_block=1,
        latent_channels=params["latent_channels"],
        norm_num_groups=8,
        sample_size=128,
    )


def draw_crops(frames: Frames, train: np.ndarray, batch_size: int, size: int, rng: np.random.Generator) -> torch.Tensor:
    """Random crops around random pixels of the subject => (B, 3, size, size) in [-1, 1].

    The background covers most of a picture and is learnt quickly. Pixels that differ from the picture's border colour
    count as subject.
    """
    pictures = frames.batch(rng.choice(train, batch_size, replace=False))
    height, width = pictures.shape[-2:]
    crops = []
    for picture in pictures:
        backdrop = picture[:, [0, 0, height // 2, height // 2], [0, width - 1, 0, width - 1]].mean(1)
        rows, columns = ((picture - backdrop[:, None, None]).abs().amax(0) > 0.35).nonzero(as_tuple=True)
        row, column = height // 2, width // 2
        if len(rows):
            pixel = rng.integers(len(rows))
            row, column = int(rows[pixel]), int(columns[pixel])
        top = int(np.clip(row - rng.integers(size), 0, height - size))
        left = int(np.clip(column - rng.integers(size), 0, width - size))
        crops.append(picture[:, top : top + size, left : left + size])
    return torch.stack(crops)


def chroma(error: torch.Tensor) -> torch.Tensor:
    """The part of a colour error (B, 3, H, W) that does not change the luminance (Rec. 601)."""
    weights = error.new_tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1)
    return error - (error * weights).sum(dim=1, keepdim=True)


def edges(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Horizontal and vertical finite differences of (B, 3, H, W)."""
    return x[..., :, 1:] - x[..., :, :-1], x[..., 1:, :] - x[..., :-1, :]


def reconstruction_loss(
    decoded: torch.Tensor, pixels: torch.Tensor, weights: dict
) -> tuple[torch.Tensor, dict[str, float]]:
    """How far decoded pixel values are from the true ones, both (B, 3, H, W) in [-1, 1] => loss (), PSNR to log."""
    error = decoded - pixels
    mse = error.square().mean()
    # Without its own weight, colour is learnt last: pink tops were still skin-coloured after 9,000 steps.
    colour_loss = chroma(error).square().mean()
    edge_loss = sum(edge.abs().mean() for edge in edges(error))
    weighted = weights["mse_weight"] * mse + weights["colour_weight"] * colour_loss + weights["edge_weight"] * edge_loss
    return error.abs().mean() + weighted, {"psnr": -10 * float(np.log10(mse.item() / 4))}  # pixels span 2


def main() -> None:
    """Train, and save to the work folder with a scaling factor for latents of unit variance."""
    params, seed = load_section("vae"), load_section("seed")
    frames = Frames.load()
    train = np.flatnonzero(~frames.is_val)
    torch.manual_seed(seed)  # initial weights
    fresh = build(params)
    scale = 2 ** (len(params["block_out_channels"]) - 1)  # pixels to a latent, on each side

    def draw(step, generator):
        rng = np.random.default_rng(generator.initial_seed())
        if step < params["crop_steps"]:
            pixels = draw_crops(frames, train, params["batch_size"], params["crop_size"], rng)
        else:
            pixels = frames.batch(rng.choice(train, params["full_batch_size"], replace=False))
        shape = len(pixels), params["latent_channels"], *(side // scale for side in pixels.shape[2:])
        return pixels, torch.randn(shape, generator=generator)

    def compute_loss(model, pixels, noise):
        posterior = model.encode(pixels).latent_dist  # (B, 2C, H/8, W/8)
        decoded = model.decode(posterior.mean + posterior.std * noise).sample.float()  # (B, 3, H, W)
        loss, figures = reconstruction_loss(decoded, pixels, params)
        kl = posterior.kl().mean()
        return loss + params["kl_weight"] * kl, {**figures, "kl": kl.item()}

    steps = params["crop_steps"] + params["full_steps"]
    vae: Any = fit(
        fresh,
        draw,
        compute_loss,
        WORK / "vae",
        steps=steps,
        batch_size=params["batch_size"],
        learning_rate=params["learning_rate"],
        seed=seed,
        save_every=200,
        belongs_to=[params, digest(WORK / "frames" / "pixels.npy")],
    )
    vae.eval()
    with torch.no_grad():
        latents = torch.cat(
            [vae.encode(frames.batch(part)).latent_dist.mean for part in np.split(train[:: len(train) // 256][:256], 8)]
        )
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    vae.save_pretrained(WORK / "vae" / "model")


if __name__ == "__main__":
    main()
