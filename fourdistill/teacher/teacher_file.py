"""The file of a teacher: what every representation has in common, as safetensors with a JSON of facts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fourdistill.errors import InputError
from fourdistill.geometry.scene_frame import SceneFrame
from fourdistill.storage.files import new_file
from fourdistill.teacher.backdrop import Backdrop


@dataclass(frozen=True)
class Fitted:
    """What every fitted teacher has; `size` (height, width) is that of its pictures."""

    frame: SceneFrame
    size: tuple[int, int]
    backdrop: Backdrop


def write_teacher(
    path: Path, file_format: str, fitted: Fitted, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> None:
    """Write a teacher atomically to one safetensors file, with `tensors` and `facts` of its representation."""
    backdrop, frame = fitted.backdrop, fitted.frame
    tensors = {name: value.contiguous() for name, value in tensors.items()} | {
        "backdrop.texture": torch.from_numpy(backdrop.texture).half(),
        "backdrop.color": torch.from_numpy(backdrop.color),
        "times": torch.from_numpy(backdrop.times),
        "frame.center": torch.from_numpy(frame.center),
        "frame.axes": torch.from_numpy(frame.axes),
    }
    facts = {
        "format": file_format,
        "size": fitted.size,
        "scale": frame.scale,
        "floor": [backdrop.height, backdrop.half],
        **facts,
    }
    with new_file(path) as partial:  # one key: safetensors writes several in random order
        save_file(tensors, partial, metadata={"facts": json.dumps(facts)})


def read_teacher(path: Path, file_format: str) -> tuple[Fitted, dict[str, Tensor], dict[str, Any]]:
    """What `write_teacher` was given; raises `InputError` with the file's name if it is no teacher of this format."""
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get("facts", "{}"))
            if facts.get("format") != file_format:
                raise InputError(f"{path}: format: expected {file_format}, found {facts.get('format')}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: expected a teacher in safetensors, found none that can be read") from error
    texture, color = tensors["backdrop.texture"].float().numpy(), tensors["backdrop.color"].numpy()
    floor, half = facts["floor"]
    backdrop = Backdrop(floor, half, texture, color, tensors["times"].numpy())
    frame = SceneFrame(tensors["frame.center"].numpy(), tensors["frame.axes"].numpy(), facts["scale"])
    height, width = facts["size"]
    return Fitted(frame, (height, width), backdrop), tensors, facts


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
