"""Loader batches => adapter conditions."""

from dataclasses import fields, replace

import torch

from fourdistill.models.codec import EmbeddingCodec
from fourdistill.models.conditions import Conditions
from fourdistill.models.view_encoding import to_tensors
from fourdistill.shards.loader.batches import Batch


def move(batch: Batch, device: torch.device, codec: EmbeddingCodec | None = None) -> Batch:
    """The batch with its tensors on `device`, the features in float32 (they come in the precision of the shards).

    `codec`: of shards that contain codes of the image embeddings, on `device`; the batch then has the embeddings.
    """
    tensors = {f.name: getattr(batch, f.name) for f in fields(batch)}
    moved = {k: v.to(device) for k, v in tensors.items() if isinstance(v, torch.Tensor)}
    floats = {k: v.float() if v.is_floating_point() else v for k, v in moved.items()}
    if codec is not None:
        floats["source_embeds"] = codec.decode(floats["source_embeds"])
    return replace(batch, displacement=to_tensors(batch.displacement, device, torch.float32), **floats)


def conditions_of_batch(batch: Batch) -> Conditions:
    """The conditions of a batch."""
    return Conditions(
        image_embeds=batch.source_embeds,
        has_image=torch.ones_like(batch.displacement.has_time),
        displacement=batch.displacement,
    )
