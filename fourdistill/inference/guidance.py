"""Classifier-free guidance with a weight for each condition: the required branches, and how they are combined.

With epsilon(C) the prediction under all conditions and epsilon(C - c) the one without condition c,

    epsilon = epsilon(C) + sum over c of (w_c - 1) (epsilon(C) - epsilon(C - c))

where c is the text, the image, the displacement in time, the displacement of the camera, or all of them together. With
w_all alone this is the formula of Ho & Salimans 2022 (arXiv 2207.12598, eq. 6). A weight of 1 needs no branch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from fourdistill.errors import InputError
from fourdistill.models.conditions import Conditions

FULL = "full"


@dataclass(frozen=True)
class Guidance:
    """Guidance weights: 1 leaves a condition unchanged, 0 removes it. Field names are branch names."""

    all: float = 1.0
    text: float = 1.0
    image: float = 1.0
    time: float = 1.0
    view: float = 1.0

    def __post_init__(self):
        for field in fields(self):
            if not 0 <= getattr(self, field.name) < float("inf"):
                found = getattr(self, field.name)
                raise InputError(f"{field.name} guidance: expected at least 0, and a finite number, got {found}")

    def branches(self) -> list[str]:
        """The predictions needed: the full one, then one without each condition whose weight is not 1."""
        return [FULL, *(field.name for field in fields(self) if getattr(self, field.name) != 1)]

    def combine(self, predictions: Mapping[str, torch.Tensor], rescale: float = 0.0) -> torch.Tensor:
        """Predictions by branch, (B, C, h, w) each => the guided one (B, C, h, w).

        `rescale` in [0, 1] brings the standard deviation back towards that of the full prediction (Lin et al.,
        arXiv 2305.08891, section 3.4), to reduce oversaturation under strong guidance.
        """
        full = predictions[FULL]
        guided = full
        for name, without in predictions.items():
            if name != FULL:
                guided = guided + (getattr(self, name) - 1) * (full - without)
        return rescale_noise_cfg(guided, full, guidance_rescale=rescale) if rescale else guided


def without(conditions: Conditions, branch: str, null_image: torch.Tensor) -> Conditions:
    """The conditions that remain in a branch; `null_image` (1, S, D) encodes a missing image. Text is not included."""
    every = torch.ones_like(conditions.has_image)
    if branch in ("time", "view", "all"):
        conditions = conditions.masked(time=every & (branch == "view"), view=every & (branch == "time"))
    return conditions.without_image(every, null_image) if branch in ("image", "all") else conditions
