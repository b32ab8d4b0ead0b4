"""Batches of the loader => conditions of the adapter."""

from dataclasses import fields, replace

import torch

from fourdistill.models.conditions import Conditions
from fourdistill.models.view_encoding import encode_view
from fourdistill.shards.loader.batches import Batch


def move(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`, the features in float32 (they come in the precision of the shards)."""
    tensors = {f.name: getattr(batch, f.name) for f in fields(batch)}
    moved = {k: v.to(device) for k, v in tensors.items() if isinstance(v, torch.Tensor)}
    return replace(batch, **{k: v.float() if v.is_floating_point() else v for k, v in moved.items()})


def make_conditions(batch: Batch, view_encoding: str) -> Conditions:
    """What a batch conditions on, with the camera displacement as `view_encoding` has it."""
    return Conditions(
        image_embeds=batch.source_embeds,
        has_image=torch.ones_like(batch.has_time),
        delta_time=batch.delta_time,
        has_time=batch.has_time,
        view=encode_view(batch.delta_spherical, batch.relative_pose, view_encoding),
        has_view=batch.has_view,
    )
