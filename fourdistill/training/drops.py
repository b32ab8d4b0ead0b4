"""Conditions dropped at random in training, which guidance and single displacements live on."""

from dataclasses import dataclass, fields, replace

import torch

from fourdistill.models.conditions import Conditions
from fourdistill.training.settings import DropoutRates


@dataclass(frozen=True)
class Drops:
    """Which samples of a batch lose which condition, (B,) bool each."""

    text: torch.Tensor
    image: torch.Tensor
    time: torch.Tensor
    view: torch.Tensor


def draw_drops(batch_size: int, rates: DropoutRates, generator: torch.Generator) -> Drops:
    """Drop text, image, time and view independently per sample, and all together now and then."""
    draws = torch.rand(5, batch_size, generator=generator)
    everything = draws[4] < rates.all
    return Drops(*((draws[i] < getattr(rates, field.name)) | everything for i, field in enumerate(fields(Drops))))


def draw_keep(batch_size: int, hidden_width: int, rate: float, generator: torch.Generator) -> torch.Tensor | None:
    """Nested dropout: how many of a mapper's hidden units each sample keeps, (B,); None where the rate is 0.

    With probability `rate` a number from 1 on, evenly drawn, else all of them.
    """
    if not rate:
        return None
    keep = torch.randint(1, hidden_width + 1, (batch_size,), generator=generator)
    chosen = torch.rand(batch_size, generator=generator) < rate
    return torch.where(chosen, keep, hidden_width)


def drop_displacements(conditions: Conditions, drops: Drops) -> Conditions:
    """The conditions with the dropped displacements masked, like absent ones."""
    device = conditions.has_time.device
    return conditions.masked(~drops.time.to(device), ~drops.view.to(device))


def drop_images(conditions: Conditions, null_image: torch.Tensor, drops: Drops) -> Conditions:
    """The conditions with the embeddings of no image, `null_image` (1, S, D), in the place of the dropped ones."""
    dropped = drops.image.to(conditions.image_embeds.device)[:, None, None]  # (B, 1, 1)
    return replace(conditions, image_embeds=torch.where(dropped, null_image, conditions.image_embeds))


def drop_captions(captions: list[str], drops: Drops) -> list[str]:
    """The captions, "" for those dropped."""
    return ["" if drop else caption for drop, caption in zip(drops.text.tolist(), captions, strict=True)]
