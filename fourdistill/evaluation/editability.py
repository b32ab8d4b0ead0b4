"""Does a prompt still get its way? CLIP similarity to the prompt and to the picture, over lambda and image scale.

The commands of held-out pairs are carried out with another scene's caption as the prompt. `clip_t` is the cosine of
generated picture and prompt (editability), `clip_i` that of generated and true picture (fidelity): what raises the
one tends to lower the other, and the plot of both is what a setting should be chosen by.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from fourdistill.evaluation.commands import Command
from fourdistill.evaluation.feature_spaces import FeatureSpaces
from fourdistill.evaluation.generate import Painter
from fourdistill.inference.pipeline import FourDistillPipeline

TEXT_PROJECTION = "clip_projection/model.safetensors"


@dataclass(frozen=True)
class EditScores:
    """Similarities of N edits at one setting."""

    lambda_: float
    image_scale: float
    clip_t: np.ndarray
    """(N,) cosine of picture and prompt."""
    clip_i: np.ndarray
    """(N,) cosine of picture and truth."""


class CaptionEncoder:
    """Captions in the space of the base's image encoder; only a base that brings CLIP's text projection has one."""

    def __init__(self, pipe: FourDistillPipeline, projection: torch.Tensor):
        self.pipe, self.projection = pipe, projection.float().to(pipe.device)

    @classmethod
    def from_base(cls, pipe: FourDistillPipeline, base: str) -> "CaptionEncoder | None":
        """The encoder of a local base with a `clip_projection/`; None for others, whose two towers may not match."""
        path = Path(base) / TEXT_PROJECTION
        return cls(pipe, load_file(path)["text_projection.weight"]) if path.is_file() else None

    @torch.no_grad()
    def __call__(self, captions: Sequence[str]) -> np.ndarray:
        """N captions => unit vectors (N, P) float32."""
        tokens = self.pipe.tokenizer(list(captions), padding="max_length", truncation=True, return_tensors="pt")
        pooled = self.pipe.text_encoder(input_ids=tokens.input_ids.to(self.pipe.device)).pooler_output  # (N, D)
        return F.normalize(pooled.float() @ self.projection.T, dim=-1).cpu().numpy()


def choose_edits(commands: Sequence[Command], num_edits: int, rng: np.random.Generator) -> list[Command]:
    """Commands drawn at random, each with the caption of another scene for its prompt; empty without captions."""
    captioned = [command for command in commands if command.caption]
    captions = sorted({command.caption for command in captioned if command.caption})
    if len(captions) < 2:
        return []
    edits = []
    for i in rng.permutation(len(captioned))[:num_edits]:
        others = [caption for caption in captions if caption != captioned[i].caption]
        edits.append(replace(captioned[i], caption=others[rng.integers(len(others))]))
    return edits


def score_edits(
    paint: Painter,
    spaces: FeatureSpaces,
    encode: CaptionEncoder,
    edits: Sequence[Command],
    lambdas: Sequence[float],
    image_scales: Sequence[float],
) -> list[EditScores]:
    """Every lambda at the first image scale, then every other image scale at the first lambda."""
    combinations = [(lambda_, image_scales[0]) for lambda_ in lambdas]
    combinations += [(lambdas[0], scale) for scale in image_scales[1:]]
    prompts = encode([command.caption or "" for command in edits])  # (N, P)
    truth = spaces([paint.read(command.target) for command in edits], len(edits), "features, truth of edits")["clip"]
    scores = []
    for lambda_, scale in combinations:
        name = f"edits, lambda {lambda_:g}, image scale {scale:g}"
        images = paint(edits, name, lambda_=lambda_)
        found = spaces(images, len(images), f"features, {name}")["clip"]  # (N, P)
        scores.append(EditScores(lambda_, scale, (found * prompts).sum(1), (found * truth).sum(1)))
    return scores
