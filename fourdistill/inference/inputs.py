"""Arguments as users give them, single values or lists => rows of one length => the conditions of a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image

from fourdistill.errors import InputError
from fourdistill.inference.displacement import view_displacement
from fourdistill.models.conditions import Conditions
from fourdistill.models.mapper import encode_view

Number = float | None


@dataclass(frozen=True)
class ConditionImage:
    """A further condition image, with the displacement from it to what is to be drawn; single values or lists.

    The fields are the pipeline's arguments of the same names.
    """

    image: Image.Image | Sequence[Image.Image]
    time: Number | Sequence[Number] = None
    azimuth: Number | Sequence[Number] = None
    elevation: Number | Sequence[Number] = None
    radius: Number | Sequence[Number] = None
    relative_pose: ArrayLike | Sequence[ArrayLike] | None = None


def lay_out_others(
    others: Sequence[ConditionImage], encode: Callable[[Image.Image | Sequence[Image.Image]], torch.Tensor]
) -> dict[str, Any]:
    """The fields of further condition images by name, `others[0].time` and so on, images as their embeddings."""
    inputs = {}
    for k, other in enumerate(others):
        given = {field.name: getattr(other, field.name) for field in fields(other)}
        given["image_embeds"] = encode(given.pop("image"))  # (1 or B, S, D)
        inputs |= {f"others[{k}].{name}": value for name, value in given.items()}
    return inputs


def make_conditions(inputs: dict[str, list], num_others: int, view_encoding: str) -> Conditions:
    """Rows of `broadcast` => the conditions of a batch; what is None is masked out."""
    further = tuple(_one_image(inputs, f"others[{k}].", view_encoding) for k in range(num_others))
    return replace(_one_image(inputs, "", view_encoding), others=further)


def _one_image(inputs: dict[str, list], prefix: str, view_encoding: str) -> Conditions:
    """The conditions of one image of every sample, whose inputs' names begin with `prefix`."""
    names = ("image_embeds", "time", "azimuth", "elevation", "radius", "relative_pose")
    rows = {name: inputs[prefix + name] for name in names}
    image_embeds = torch.stack(rows["image_embeds"])  # (B, S, D)
    kwargs: dict[str, Any] = {"device": image_embeds.device, "dtype": image_embeds.dtype}
    views = [view_displacement(*row) for row in zip(*(rows[name] for name in names[2:]), strict=True)]
    delta = torch.tensor([[0.0] * 3 if view is None else view[0].tolist() for view in views], **kwargs)
    pose = torch.tensor([[0.0] * 12 if view is None else view[1].tolist() for view in views], **kwargs)
    return Conditions(
        image_embeds=image_embeds,
        delta_time=torch.tensor([0.0 if time is None else time for time in rows["time"]], **kwargs),
        has_time=torch.tensor([time is not None for time in rows["time"]], device=image_embeds.device),
        view=encode_view(delta, pose, view_encoding),
        has_view=torch.tensor([view is not None for view in views], device=image_embeds.device),
    )


def broadcast(**values: Any) -> dict[str, list]:
    """Single values, lists, arrays and tensors => lists of one length, the longest; others must have 1 entry.

    A (3, 4) or (4, 4) `relative_pose` is a single value. Raises `InputError` naming the list that does not fit.
    """
    lists = {
        name: as_list(value, single_ndim=2 if name.endswith("relative_pose") else 0) for name, value in values.items()
    }
    batch_size = max(len(entries) for entries in lists.values())
    for name, entries in lists.items():
        if len(entries) not in (1, batch_size):
            raise InputError(f"{name}: expected 1 or {batch_size} values, got {len(entries)}")
    return {name: entries * (batch_size // len(entries)) for name, entries in lists.items()}


def as_list(value: Any, single_ndim: int) -> list:
    """A value of `single_ndim` dimensions => a list of it; more dimensions, or a sequence of such values => a list."""
    if isinstance(value, (list, tuple)):
        if single_ndim == 0 or any(entry is None or np.ndim(entry) == single_ndim for entry in value):
            return list(value)
        return [np.asarray(value)]
    return list(value) if getattr(value, "ndim", 0) > single_ndim else [value]
