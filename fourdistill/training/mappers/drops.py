"""Random dropping of conditions in training, needed for guidance and for partial displacements."""

from dataclasses import dataclass, fields

import torch

from fourdistill.models.conditions import Conditions
from fourdistill.training.mappers.settings import Dropout


@dataclass(frozen=True)
class Drops:
    """Which samples of a batch lose each condition, (B,) bool."""

    text: torch.Tensor
    image: torch.Tensor
    time: torch.Tensor
    view: torch.Tensor


def draw_drops(batch_size: int, rates: Dropout, generator: torch.Generator) -> Drops:
    """Drop text, image, time and view independently per sample, and sometimes all together."""
    draws = torch.rand(5, batch_size, generator=generator)
    everything = draws[4] < rates.all
    return Drops(*((draws[i] < getattr(rates, field.name)) | everything for i, field in enumerate(fields(Drops))))


def draw_lambdas(batch_size: int, lambda_: float, rate: float, generator: torch.Generator) -> torch.Tensor:
    """A lambda per sample (B,): the adapter's own, or with probability `rate` 0 or (equally often) one in between."""
    draws = torch.rand(3, batch_size, generator=generator)
    lower = torch.where(draws[1] < 0.5, 0.0, draws[2] * lambda_)
    return torch.where(draws[0] < rate, lower, lambda_)


def drop_displacements(conditions: Conditions, drops: Drops) -> Conditions:
    """The conditions with the dropped displacements masked, like absent ones."""
    device = conditions.has_image.device
    return conditions.masked(~drops.time.to(device), ~drops.view.to(device))


def drop_images(conditions: Conditions, null_image: torch.Tensor, drops: Drops) -> Conditions:
    """The conditions with dropped images replaced by `null_image` (1, S, D)."""
    return conditions.without_image(drops.image.to(conditions.has_image.device), null_image)


def drop_captions(captions: list[str], drops: Drops) -> list[str]:
    """The captions, "" where dropped."""
    return ["" if drop else caption for drop, caption in zip(drops.text.tolist(), captions, strict=True)]
