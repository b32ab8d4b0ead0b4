"""Arguments as users give them, single values or lists => rows of one length => the conditions of a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image

from fourdistill.errors import InputError
from fourdistill.inference.displacement import check_time, seconds_to_time, view_displacement
from fourdistill.models.conditions import Conditions
from fourdistill.models.view_encoding import encode_view

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


def lay_out_grid(times: Sequence[Number] | None, **views: Any) -> tuple[dict[str, list], int]:
    """Times of the columns, views of the rows => the arguments of all cells, row by row; the number of columns."""
    columns = [None] if times is None else list(times)
    rows = broadcast(**views)
    num_rows = len(next(iter(rows.values())))
    if not columns or not num_rows:
        raise InputError(f"{'views' if columns else 'times'}: expected one at least")
    cells = {name: [value for value in values for _ in columns] for name, values in rows.items()}
    return cells | {"time": columns * num_rows}, len(columns)


def make_conditions(inputs: dict[str, list], num_others: int, view_encoding: str, shown: bool = True) -> Conditions:
    """Rows of `broadcast` => the conditions of a batch; what is None is masked out, and not `shown` every image."""
    further = tuple(_one_image(inputs, f"others[{k}].", view_encoding) for k in range(num_others))
    first = _one_image(inputs, "", view_encoding)
    return replace(first, has_image=first.has_image & shown, others=further)


def _one_image(inputs: dict[str, list], prefix: str, view_encoding: str) -> Conditions:
    """The conditions of one image of every sample, whose inputs' names begin with `prefix`."""
    names = ("image_embeds", "time", "azimuth", "elevation", "radius", "relative_pose")
    rows = {name: inputs[prefix + name] for name in names}
    image_embeds = torch.stack(rows["image_embeds"])  # (B, S, D)
    times = [check_time(time, f"{prefix}time") for time in rows["time"]]
    kwargs: dict[str, Any] = {"device": image_embeds.device, "dtype": image_embeds.dtype}
    views = [view_displacement(*row) for row in zip(*(rows[name] for name in names[2:]), strict=True)]
    delta = torch.tensor([[0.0] * 3 if view is None else view[0].tolist() for view in views], **kwargs)
    pose = torch.tensor([[0.0] * 12 if view is None else view[1].tolist() for view in views], **kwargs)
    return Conditions(
        image_embeds=image_embeds,
        has_image=torch.ones(len(image_embeds), dtype=torch.bool, device=image_embeds.device),
        delta_time=torch.tensor([0.0 if time is None else time for time in times], **kwargs),
        has_time=torch.tensor([time is not None for time in times], device=image_embeds.device),
        view=encode_view(delta, pose, view_encoding),
        has_view=torch.tensor([view is not None for view in views], device=image_embeds.device),
    )


def count_seconds(inputs: dict[str, list], max_gap_s: float | None) -> dict[str, list]:
    """Rows with `seconds` and `duration_s` => rows with `time` alone, in the unit that the adapter was trained on.

    `max_gap_s` is the seconds that a `time` of 1 stands for, None where it is the scene. Raises `InputError`.
    """
    seconds, durations = inputs["seconds"], inputs["duration_s"]
    if any(s is not None and time is not None for s, time in zip(seconds, inputs["time"], strict=True)):
        raise InputError("seconds: expected no time beside it")
    spans = durations if max_gap_s is None else [max_gap_s] * len(seconds)
    counted = [seconds_to_time(*pair) for pair in zip(seconds, spans, strict=True)]
    times = [time if share is None else share for time, share in zip(inputs["time"], counted, strict=True)]
    return {name: rows for name, rows in inputs.items() if name not in ("seconds", "duration_s")} | {"time": times}


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


def as_pictures(images: Any, name: str) -> list[Image.Image]:
    """One picture or several => RGB pictures; raises `InputError` where there is anything else."""
    images = list(images) if isinstance(images, (list, tuple)) else [images]
    for image in images:
        if not isinstance(image, Image.Image):
            raise InputError(f"{name}: expected a PIL image, or a list of them, got {type(image).__name__}")
    return [image.convert("RGB") for image in images]


def as_list(value: Any, single_ndim: int) -> list:
    """A value of `single_ndim` dimensions => a list of it; more dimensions, or a sequence of such values => a list."""
    if isinstance(value, (list, tuple)):
        if single_ndim == 0 or any(entry is None or np.ndim(entry) == single_ndim for entry in value):
            return list(value)
        return [np.asarray(value)]
    return list(value) if getattr(value, "ndim", 0) > single_ndim else [value]
