"""Stage `train_unet`: train a text-to-image U-Net with an IP-Adapter-Plus image prompt, on latents and features.

Text and image prompt are dropped independently, so that guidance works for each. The projector of `train_projector`
is frozen. The prompt picture is also the target picture, as in IP-Adapter's own training: the base learns nothing about
displacements.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from frames import Frames
from task import ComputeLoss, Draw, fit
from train_projector import OUT as PROJECTOR
from train_projector import load_projector
from transformers import CLIPTextModelWithProjection, CLIPTokenizer
from work import WORK, digest, load_section

ENCODED = WORK / "encoded"
NUM_TIMESTEPS = 1000


def make_scheduler(params: dict) -> DDIMScheduler:
    """The noise schedule and prediction type (`compare.py` measures the effect of each choice)."""
    return DDIMScheduler(
        num_train_timesteps=NUM_TIMESTEPS,
        beta_schedule=params["beta_schedule"],
        prediction_type=params["prediction_type"],
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
    )


def build(params: dict, latent_channels: int, text_width: int) -> UNet2DConditionModel:
    """A U-Net with cross-attention at every level."""
    channels = tuple(params["block_out_channels"])
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=latent_channels,
        out_channels=latent_channels,
        down_block_types=("CrossAttnDownBlock2D",) * len(channels),
        up_block_types=("CrossAttnUpBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=params["layers_per_block"],
        attention_head_dim=tuple(params["heads"]),
        cross_attention_dim=text_width,
        norm_num_groups=16,
    )


def add_image_attention(unet: Any, num_tokens: int) -> None:
    """Add image keys and values to every cross-attention, initialised from the text's as in IP-Adapter.

    The U-Net then takes (text hidden states, [image tokens]) as its encoder hidden states.
    """
    width = unet.config.cross_attention_dim
    processors = dict(unet.attn_processors)
    for name in processors:
        if not name.endswith("attn2.processor"):
            continue
        attention = unet.get_submodule(name.removesuffix(".processor"))
        processor = IPAdapterAttnProcessor2_0(attention.inner_dim, width, num_tokens=(num_tokens,), scale=1.0)
        processor.to_k_ip[0].load_state_dict(attention.to_k.state_dict())
        processor.to_v_ip[0].load_state_dict(attention.to_v.state_dict())
        processors[name] = processor
    unet.set_attn_processor(processors)


@torch.no_grad()
def encode_captions(captions: list[str], tokenizer: Any, encoder: Any) -> torch.Tensor:
    """Captions => text hidden states (N + 1, L, D); the last is the empty caption's."""
    input_ids = tokenizer([*captions, ""], padding="max_length", truncation=True, return_tensors="pt").input_ids
    return encoder(input_ids=input_ids).last_hidden_state


class Drawn(Protocol):
    """What batches are drawn from."""

    @property
    def null_image(self) -> torch.Tensor:
        """(T, D): features of an empty picture."""
        ...

    @property
    def text(self) -> torch.Tensor:
        """(captions + 1, L, D); the last is the empty caption."""
        ...

    def draw(self, count: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
        """Random pictures of training scenes => latents (B, C, h, w), image prompts (B, T, D), captions (B,)."""
        ...


@dataclass(frozen=True)
class Examples:
    """Latents and conditions of every frame, memory-mapped."""

    frames: Frames
    latents: np.ndarray  # (N, C, h, w) float16
    image_embeds: np.ndarray  # (N, T, D) float16
    null_image: torch.Tensor  # (T, D): features of an empty picture
    text: torch.Tensor  # (captions + 1, L, D); the last is the empty caption

    @cached_property
    def train(self) -> np.ndarray:
        """The frames of training scenes, by index."""
        return np.flatnonzero(~self.frames.is_val)

    def draw(self, count: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
        """Random frames, each as its own image prompt."""
        indices = np.sort(rng.choice(self.train, count, replace=False))
        x, image = (torch.from_numpy(array[indices]).float() for array in (self.latents, self.image_embeds))
        return x, image, self.frames.caption[indices]

    @classmethod
    def load(cls) -> "Examples":
        """Open the outputs of the stage `encode`, and encode the captions."""
        frames = Frames.load()
        latents, image_embeds = (
            np.load(ENCODED / f"{name}.npy", mmap_mode="r") for name in ("latents", "image_embeds")
        )
        null_image = torch.from_numpy(np.load(ENCODED / "null_image_embeds.npy")).float()
        folder = WORK / "clip" / "model"
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        encoder = CLIPTextModelWithProjection.from_pretrained(folder / "text").eval()
        return cls(frames, latents, image_embeds, null_image, encode_captions(frames.captions, tokenizer, encoder))


def draw_timesteps(params: dict, step: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """(B,) timesteps: at first only the noisiest, then all of them, with high ones more often.

    From pure noise, the conditions are the U-Net's only information, so it learns to use them there.
    """
    share = torch.rand(count, generator=generator)
    if step < params["noise_steps"]:
        share = params["noise_from"] + (1 - params["noise_from"]) * share
    else:
        share = share ** (1 / (1 + params["timestep_bias"]))  # density of t/T proportional to (t/T)^bias
    return (share * NUM_TIMESTEPS).long().clamp(max=NUM_TIMESTEPS - 1)


def make_draw(params: dict, examples: Drawn) -> Draw:
    """Batches of pictures with dropped conditions, timesteps and noise; see `make_loss` for what they contain."""
    drop = params["drop"]

    def draw(step, generator):
        rng = np.random.default_rng(generator.initial_seed())
        x, image, caption = examples.draw(params["batch_size"], rng)
        u = rng.random(len(x))
        no_text = u < drop["text"] + drop["both"]
        no_image = (u >= drop["text"]) & (u < drop["text"] + drop["both"] + drop["image"])
        caption[no_text] = len(examples.text) - 1
        image[torch.from_numpy(no_image)] = examples.null_image
        # Guidance uses an empty picture, a pipeline without the adapter no image tokens: the U-Net is trained on both.
        no_tokens = no_image & (rng.random(len(x)) < params["no_tokens"])
        noise = torch.randn(x.shape, generator=generator)
        timesteps = draw_timesteps(params, step, len(x), generator)
        dropped = (torch.from_numpy(rows) for rows in (no_text, no_image, no_tokens))
        return x, examples.text[caption], image, *dropped, noise, timesteps

    return draw


def make_loss(params: dict, projector: torch.nn.Module) -> ComputeLoss:
    """The loss of predicting noise or velocity.

    It takes latents x (B, C, h, w), text (B, L, D), image embeddings (B, T, D), masks (B,) of what was dropped, noise
    (B, C, h, w) and timesteps (B,).
    """
    scheduler: Any = make_scheduler(params)

    def compute_loss(model, x, text, image, no_text, no_image, no_tokens, noise, timesteps):
        with torch.no_grad():
            image_tokens = projector.to(x.device)(image)  # (B, T, width)
        image_tokens[no_tokens] = 0  # zeros add nothing: keys and values have no bias
        noisy = scheduler.add_noise(x, noise, timesteps)
        is_v = params["prediction_type"] == "v_prediction"
        target = scheduler.get_velocity(x, noise, timesteps) if is_v else noise
        prediction = model(noisy, timesteps, (text, [image_tokens[:, None]])).sample
        error = (prediction.float() - target).square().mean((1, 2, 3))  # (B,)
        shown = {}
        for name, rows in {"both": ~no_text & ~no_image, "text": no_image & ~no_text}.items():
            if rows.any():
                shown[f"loss_{name}"] = error[rows].mean().item()
        return error.mean(), shown

    return compute_loss


def train(params: dict, examples: Examples, folder: Path, seed: int) -> Any:
    """A U-Net with image prompt, trained for `params["steps"]` steps; checkpoints and logs go to `folder`."""
    torch.manual_seed(seed)  # initial weights
    projector = load_projector(examples.image_embeds.shape[-1], examples.text.shape[-1])
    unet: Any = build(params, examples.latents.shape[1], examples.text.shape[-1])
    add_image_attention(unet, projector.latents.shape[1])
    return fit(
        unet,
        make_draw(params, examples),
        make_loss(params, projector),
        folder,
        steps=params["steps"],
        batch_size=params["batch_size"],
        learning_rate=params["learning_rate"],
        seed=seed,
        ema_decay=params["ema_decay"],
        belongs_to=[params, digest(PROJECTOR, *sorted(ENCODED.glob("*.npy")))],
    )


def main() -> None:
    """Train and save the U-Net's weights, image prompt included, to the work folder."""
    trained = train(load_section("unet"), Examples.load(), WORK / "unet", load_section("seed"))
    trained.save_pretrained(WORK / "unet" / "model")


if __name__ == "__main__":
    main()
