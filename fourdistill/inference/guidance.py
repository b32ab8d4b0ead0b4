"""Classifier-free guidance with a weight for each condition: which branches it takes, and how they are put together.

With epsilon(C) the prediction under all conditions and epsilon(C - c) that without condition c,

    epsilon = epsilon(C) + sum over c of (w_c - 1) (epsilon(C) - epsilon(C - c))

where c is the text, the image, the displacement in time, that of the camera, or all of them together. With w_all alone
this is the formula of Ho & Salimans 2022 (arXiv 2207.12598, eq. 6); a weight of 1 costs no branch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from fourdistill.errors import InputError
from fourdistill.inference.control_table import ControlTable
from fourdistill.models.attention import Conditioning
from fourdistill.models.conditions import Conditions

FULL = "full"


@dataclass(frozen=True)
class Guidance:
    """Weights; 1 leaves a condition at its own strength, 0 takes it away. The fields are the names of the branches."""

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
        """The predictions needed: the full one, then without each condition whose weight is not 1."""
        return [FULL, *(field.name for field in fields(self) if getattr(self, field.name) != 1)]

    def combine(self, predictions: Mapping[str, torch.Tensor], rescale: float = 0.0) -> torch.Tensor:
        """Predictions by branch, (B, C, h, w) each => the guided one (B, C, h, w).

        `rescale` in [0, 1] brings the standard deviation back towards that of the full prediction (Lin et al.,
        arXiv 2305.08891, section 3.4), against oversaturation under strong guidance.
        """
        full = predictions[FULL]
        guided = full
        for name, without in predictions.items():
            if name != FULL:
                guided = guided + (getattr(self, name) - 1) * (full - without)
        return rescale_noise_cfg(guided, full, guidance_rescale=rescale) if rescale else guided


@dataclass(frozen=True)
class BranchedConditioning:
    """What the U-Net is conditioned on at every step, for all branches in one batch."""

    fixed: Conditioning
    """Text and image of the branches, one branch after the other; no timestep changes them."""
    control: ControlTable | None
    """The words of the samples at all timesteps; a branch only masks them."""
    branches: Sequence[str]

    @cached_property
    def mask(self) -> torch.Tensor | None:
        """(branches * B, n) bool, which words each branch of a sample sees; None when all see all."""
        if self.control is None:
            return None
        seen = self.control.seen  # (B, n)
        left = [[branch not in ("all", kind) for kind in self.control.words] for branch in self.branches]
        every = torch.cat([seen & torch.tensor(kinds, device=seen.device) for kinds in left])  # (branches * B, n)
        return None if every.all() else every

    def at(self, step: int) -> Conditioning:
        """What the U-Net is conditioned on at one timestep."""
        if self.control is None:
            return self.fixed
        values, keys = self.control.at(step)  # (B, num_layers, n, D)
        copies = len(self.branches)
        return replace(
            self.fixed,
            control=torch.cat([values] * copies),
            control_keys=None if keys is None else torch.cat([keys] * copies),
            control_mask=self.mask,
        )


def without(conditions: Conditions, branch: str, null_image: torch.Tensor) -> Conditions:
    """The conditions that a branch leaves; `null_image` (1, S, D) stands for no image. Text is no part of them."""
    if branch == "all":
        return conditions.dropped(null_image)
    if branch == "image":
        return replace(conditions, image_embeds=null_image.expand_as(conditions.image_embeds), others=())
    if branch in ("time", "view"):
        every = torch.ones_like(conditions.has_time)
        return conditions.masked(time=every & (branch != "time"), view=every & (branch != "view"))
    return conditions
