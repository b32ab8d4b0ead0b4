"""Batches of the loader => conditions of the adapter, some of them dropped."""

from dataclasses import fields, replace

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


def drop_conditions(
    conditions: Conditions,
    captions: list[str],
    null_image: torch.Tensor,
    rates: DropoutRates,
    generator: torch.Generator,
) -> tuple[Conditions, list[str]]:
    """Drop text, image, time and view independently per sample, and all together now and then.

    A dropped caption is "", a dropped image is `null_image` (1, S, D), a dropped displacement is masked like an
    absent one.
    """
    draws = torch.rand(5, len(captions), generator=generator)
    everything = draws[4] < rates.all
    names = ("text", "image", "time", "view")
    text, image, time, view = (
        (draw < getattr(rates, name)) | everything for name, draw in zip(names, draws, strict=False)
    )
    device = conditions.has_time.device
    kept = replace(
        conditions,
        image_embeds=torch.where(image.to(device)[:, None, None], null_image, conditions.image_embeds),
        has_time=conditions.has_time & ~time.to(device),
        has_view=conditions.has_view & ~view.to(device),
    )
    return kept, ["" if drop else caption for drop, caption in zip(text.tolist(), captions, strict=True)]
