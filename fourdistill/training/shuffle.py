"""One condition of a batch given to the wrong samples: what condition gaps are measured with."""

from dataclasses import replace

import torch

from fourdistill.models.conditions import Conditions

GAP_CONDITIONS = ("image", "time", "view")
FIELDS = {"time": ("time",), "view": ("azimuth", "elevation", "radius", "relative_pose")}  # of a displacement


def shuffle_condition(conditions: Conditions, name: str, generator: torch.Generator) -> tuple[Conditions, torch.Tensor]:
    """Give every sample that has condition `name` that of another such sample; also returns who has it, (B,) bool.

    Conditions of single images: `others` would say the truth beside it.
    """
    assert not conditions.others
    moved = conditions.displacement
    has = {"image": torch.ones_like(conditions.has_image), "time": moved.has_time, "view": moved.has_view}[name]
    indices = has.nonzero()[:, 0]
    order = indices[torch.randperm(len(indices), generator=generator).to(indices.device)]
    given_to = torch.arange(len(has), device=has.device)
    given_to[order] = order.roll(1)  # a cycle through a random order: nobody keeps its own
    has = has & (len(indices) > 1)
    if name == "image":
        return replace(conditions, image_embeds=conditions.image_embeds[given_to]), has
    theirs = {field: getattr(moved, field)[given_to] for field in FIELDS[name]}
    return replace(conditions, displacement=replace(moved, **theirs)), has
