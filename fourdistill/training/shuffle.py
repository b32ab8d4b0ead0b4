"""Shuffling of one condition within a batch, for measuring condition gaps."""

from dataclasses import replace

import torch

from fourdistill.models.conditions import Conditions

GAP_CONDITIONS = ("image", "time", "view")
FIELDS = {"time": ("time",), "view": ("azimuth", "elevation", "radius", "relative_pose")}  # of a displacement


def shuffle_condition(conditions: Conditions, name: str, generator: torch.Generator) -> tuple[Conditions, torch.Tensor]:
    """Give every sample with condition `name` that of another such sample; also return which have it, (B,) bool.

    Only for conditions of single images: `others` would still contain the true displacement.
    """
    assert not conditions.others
    moved = conditions.displacement
    has = {"image": torch.ones_like(conditions.has_image), "time": moved.has_time, "view": moved.has_view}[name]
    indices = has.nonzero()[:, 0]
    order = indices[torch.randperm(len(indices), generator=generator).to(indices.device)]
    given_to = torch.arange(len(has), device=has.device)
    given_to[order] = order.roll(1)  # a cycle in random order: no sample keeps its own
    has = has & (len(indices) > 1)
    if name == "image":
        return replace(conditions, image_embeds=conditions.image_embeds[given_to]), has
    theirs = {field: getattr(moved, field)[given_to] for field in FIELDS[name]}
    return replace(conditions, displacement=replace(moved, **theirs)), has
