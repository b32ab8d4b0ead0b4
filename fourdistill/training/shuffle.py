"""One condition of a batch given to the wrong samples: what condition gaps are measured with."""

from dataclasses import replace

import torch

from fourdistill.models.conditions import Conditions

GAP_CONDITIONS = ("image", "time", "view")


def shuffle_condition(conditions: Conditions, name: str, generator: torch.Generator) -> tuple[Conditions, torch.Tensor]:
    """Give every sample that has condition `name` that of another such sample; also returns who has it, (B,) bool.

    Conditions of single images: `others` would say the truth beside it.
    """
    assert not conditions.others
    field = {"image": "image_embeds", "time": "delta_time", "view": "view"}[name]
    has = torch.ones_like(conditions.has_time) if name == "image" else getattr(conditions, f"has_{name}")
    indices = has.nonzero()[:, 0]
    order = indices[torch.randperm(len(indices), generator=generator).to(indices.device)]
    values = getattr(conditions, field).clone()
    values[order] = values[order.roll(1)]  # a cycle through a random order: nobody keeps its own
    return replace(conditions, **{field: values}), has & (len(indices) > 1)
