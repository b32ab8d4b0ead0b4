"""Stage `compare`: how the U-Net's design choices affect its use of text and image prompt, after short trainings.

Each variant of `params.yaml` trains a U-Net that differs from the chosen one in the listed parameters. Frames of scenes
never trained on are then noised to the same signal shares under every schedule. The picture is predicted once with the
right condition and once with another scene's. The difference of the two errors, the condition gap, measures how much
the model uses the condition; the error itself measures accuracy. Both are in latents of unit variance, where the mean
picture has an error of about 1.
"""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from train_projector import load_projector
from train_unet import Examples, make_scheduler, train
from work import WORK, load_section

PER_SCENE = 4
OUT = WORK / "compare"
CHOICES = Path("base_choices.json")


def predicted_picture(
    scheduler: Any, prediction: torch.Tensor, noisy: torch.Tensor, timestep: torch.Tensor
) -> torch.Tensor:
    """The clean latents (B, C, h, w) implied by a U-Net's output (Salimans & Ho 2022, appendix D)."""
    alpha = scheduler.alphas_cumprod[timestep]
    if scheduler.config.prediction_type == "v_prediction":
        return alpha.sqrt() * noisy - (1 - alpha).sqrt() * prediction
    return (noisy - (1 - alpha).sqrt() * prediction) / alpha.sqrt()


def pick(examples: Examples, rng: np.random.Generator) -> np.ndarray:
    """Indices of `PER_SCENE` frames from each scene never trained on, grouped by scene."""
    frames = examples.frames
    scenes = np.unique(frames.scene[frames.is_val])
    return np.concatenate([rng.choice(np.flatnonzero(frames.scene == s), PER_SCENE, replace=False) for s in scenes])


@torch.no_grad()
def condition_gaps(unet: Any, params: dict, examples: Examples, shares: list[float], seed: int) -> dict[str, float]:
    """`<condition>.<share>.right` and `.other`: mean squared errors of the predicted picture."""
    rows = pick(examples, np.random.default_rng(seed))
    projector = load_projector(examples.image_embeds.shape[-1], examples.text.shape[-1])
    tokens = torch.cat(
        [projector(torch.from_numpy(examples.image_embeds[part]).float()) for part in np.split(rows, len(rows) // 32)]
    )
    captions = examples.text[examples.frames.caption[rows]]
    nothing = {"text": torch.zeros_like(tokens), "image": examples.text[-1:].expand_as(captions)}
    other = np.roll(np.arange(len(rows)), PER_SCENE)  # frames of the next scene
    x = torch.from_numpy(examples.latents[rows]).float()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    scheduler: Any = make_scheduler(params)
    figures = {}
    for share in shares:
        timestep = (scheduler.alphas_cumprod - share).abs().argmin()
        noisy = scheduler.add_noise(x, noise, timestep.expand(len(x)))
        for condition in ("text", "image"):
            for name, order in {"right": np.arange(len(rows)), "other": other}.items():
                text = captions[order] if condition == "text" else nothing["image"]
                image = tokens[order] if condition == "image" else nothing["text"]
                errors = []
                for part in torch.arange(len(x)).split(32):
                    states = (text[part], [image[part][:, None]])
                    prediction = unet(noisy[part], timestep.expand(len(part)), states).sample
                    picture = predicted_picture(scheduler, prediction, noisy[part], timestep)
                    errors.append((picture - x[part]).square().mean())
                figures[f"{condition}.{share}.{name}"] = torch.stack(errors).mean().item()
    return figures


def main() -> None:
    """Train every variant, measure it, and write `base_choices.json`."""
    settings, chosen, seed = load_section("compare"), load_section("unet"), load_section("seed")
    examples = Examples.load()
    table = {}
    for name, changes in settings["variants"].items():
        params = {**chosen, **settings["common"], **changes}
        started = time.perf_counter()
        unet = train(params, examples, OUT / name, seed).eval()
        table[name] = {
            "seconds": round(time.perf_counter() - started, 1),  # valid for a training that was not resumed
            "parameters": sum(p.numel() for p in unet.parameters()),
            **condition_gaps(unet, params, examples, settings["signal_shares"], seed),
        }
        print(name, json.dumps(table[name]))
    CHOICES.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
