"""Batches of the loader => conditions of the adapter, some of them dropped."""

from dataclasses import dataclass, fields, replace

import torch

from fourdistill.data.loader import Batch
from fourdistill.models.conditions import Conditions
from fourdistill.models.mapper import encode_view
from fourdistill.training.settings import DropoutRates


def move(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`."""
    tensors = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return replace(batch, **{k: v.to(device) for k, v in tensors.items() if isinstance(v, torch.Tensor)})


def make_conditions(batch: Batch, view_encoding: str) -> Conditions:
    """What a batch conditions on, with the camera displacement in the encoding of the View Mapper."""
    return Conditions(
        image_embeds=batch.source_embeds,
        delta_time=batch.delta_time,
        has_time=batch.has_time,
        view=encode_view(batch.delta_spherical, batch.relative_pose, view_encoding),
        has_view=batch.has_view,
    )


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


def drop_conditions(
    conditions: Conditions, captions: list[str], null_image: torch.Tensor, drops: Drops
) -> tuple[Conditions, list[str]]:
    """The conditions and captions that are left.

    A dropped caption is "", a dropped image is `null_image` (1, S, D), a dropped displacement is masked like an
    absent one.
    """
    device = conditions.has_time.device
    kept = replace(
        conditions,
        image_embeds=drop_images(conditions.image_embeds, null_image, drops),
        has_time=conditions.has_time & ~drops.time.to(device),
        has_view=conditions.has_view & ~drops.view.to(device),
    )
    return kept, ["" if drop else caption for drop, caption in zip(drops.text.tolist(), captions, strict=True)]


def drop_images(image_embeds: torch.Tensor, null_image: torch.Tensor, drops: Drops) -> torch.Tensor:
    """image_embeds (B, S, D) with `null_image` (1, S, D) in the place of those dropped."""
    return torch.where(drops.image.to(image_embeds.device)[:, None, None], null_image, image_embeds)
