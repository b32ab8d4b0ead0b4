"""Arguments as users give them, single values or lists => rows of one length => the conditions of a batch."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image

from fourdistill.errors import InputError
from fourdistill.geometry.displacement import Displacement, degrees_off_center
from fourdistill.models.conditions import Conditions
from fourdistill.models.view_encoding import to_tensors

Number = float | None
MAX_OFF_CENTER = 15  # degrees; a real ring of cameras keeps within 6, one whose distances differ by a tenth within 13
_TURNED = (
    "%s: the camera looks %.0f degrees past the scene's centre, which has no effect: "
    "the adapter knows azimuth, elevation and radius alone (view_encoding: spherical)"
)
_log = logging.getLogger(__name__)
SAID = ("time", "azimuth", "elevation", "radius", "relative_pose", "seconds", "duration_s")  # of a displacement


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


def with_displacements(rows: dict[str, list], max_gap_s: float | None) -> dict[str, list]:
    """Rows of `broadcast` => rows with one `displacement` per image instead of the arguments that specify it.

    Names for further images begin with `others[0].` and so on. `max_gap_s`: seconds that a time of 1 stands for, None
    if it is the whole scene. Raises `InputError`.
    """
    if max_gap_s is not None:
        rows = rows | {"duration_s": [max_gap_s] * len(rows["time"])}
    read = {name: values for name, values in rows.items() if name.rpartition(".")[2] not in SAID}
    for prefix in [name.removesuffix("image_embeds") for name in rows if name.endswith("image_embeds")]:
        said = {name: rows[prefix + name] for name in SAID if prefix + name in rows}
        given = rows.get(f"{prefix}displacement") or [None] * len(rows["time"])
        each = [dict(zip(said, values, strict=True)) for values in zip(*said.values(), strict=True)]
        read[f"{prefix}displacement"] = [_one(*pair, prefix) for pair in zip(given, each, strict=True)]
    return read


def _one(displacement: Displacement | None, said: dict[str, Any], where: str) -> Displacement:
    """The displacement itself, or the one that a user said in its place."""
    if displacement is None:
        return Displacement.from_user(**said, where=where)
    if beside := [name for name, value in said.items() if value is not None and name != "duration_s"]:
        raise InputError(f"{where}{beside[0]}: expected no displacement beside it")
    return displacement


def warn_of_turns(rows: dict[str, list]) -> None:
    """Log a line where a `relative_pose` turns a camera away from the scene's centre, for adapters that know no turn.

    With `view_encoding: spherical` an adapter takes azimuth, elevation and radius from the pose and the rest has no
    effect. That is no error: `build_pairs` does the same to captures whose cameras look elsewhere (a walk through
    rooms), so that whoever draws from their poses asks for what the adapter has learnt.
    """
    for name, poses in rows.items():
        if name.endswith("relative_pose"):
            turned = max((degrees_off_center(pose) for pose in poses if pose is not None), default=0.0)
            if turned > MAX_OFF_CENTER:
                _log.warning(_TURNED, name, turned)


def conditions_of_rows(rows: dict[str, list], num_others: int, shown: bool = True) -> Conditions:
    """Rows of `with_displacements` => the conditions of a batch; not `shown` masks every image."""
    further = tuple(_one_image(rows, f"others[{k}].") for k in range(num_others))
    first = _one_image(rows, "")
    return replace(first, has_image=first.has_image & shown, others=further)


def _one_image(rows: dict[str, list], prefix: str) -> Conditions:
    """The conditions of one image of every sample, whose inputs' names begin with `prefix`."""
    image_embeds = torch.stack(rows[f"{prefix}image_embeds"])  # (B, S, D)
    displacement = Displacement.merge(rows[f"{prefix}displacement"], np.stack)
    return Conditions(
        image_embeds=image_embeds,
        has_image=torch.ones(len(image_embeds), dtype=torch.bool, device=image_embeds.device),
        displacement=to_tensors(displacement, image_embeds.device, image_embeds.dtype),
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


def as_pictures(images: Any, name: str) -> list[Image.Image]:
    """One picture or several => RGB pictures; raises `InputError` where there is anything else."""
    images = list(images) if isinstance(images, (list, tuple)) else [images]
    for image in images:
        if not isinstance(image, Image.Image):
            raise InputError(f"{name}: expected a PIL image, or a list of them, got {type(image).__name__}")
    return [image.convert("RGB") for image in images]


def as_list(value: Any, single_ndim: int) -> list:
    """A value of `single_ndim` dimensions => a list of it; more dimensions, or a sequence of such values => a list."""
    if isinstance(value, Displacement):
        return list(value) if np.ndim(value.time) else [value]
    if isinstance(value, (list, tuple)):
        if single_ndim == 0 or any(entry is None or np.ndim(entry) == single_ndim for entry in value):
            return list(value)
        return [np.asarray(value)]
    return list(value) if getattr(value, "ndim", 0) > single_ndim else [value]
