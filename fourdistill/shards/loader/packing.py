"""Batches from worker processes, each in a single block of shared memory, because each block costs a file."""

from dataclasses import dataclass
from math import prod
from typing import Any

import torch

_ALIGNMENT = 64  # bytes


@dataclass(frozen=True)
class Packed:
    """Values whose tensors lie in one buffer."""

    buffer: torch.Tensor
    """(bytes,) uint8, shared."""
    layout: list[tuple[str, torch.dtype, tuple[int, ...], int]]
    """Name, type, shape and first byte of each tensor."""
    others: dict[str, Any]
    """Values that are not tensors."""


def pack(values: dict[str, Any]) -> Packed:
    """Copy the tensors of `values` into shared memory."""
    tensors = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
    layout, size = [], 0
    for name, tensor in tensors.items():
        layout.append((name, tensor.dtype, tuple(tensor.shape), size))
        size += -(-tensor.numel() * tensor.element_size() // _ALIGNMENT) * _ALIGNMENT
    storage = torch.UntypedStorage._new_shared(size)  # as torch's own collation does
    buffer = torch.empty(0, dtype=torch.uint8).set_(storage)
    for name, view in _views(buffer, layout).items():
        view.copy_(tensors[name])
    return Packed(buffer, layout, {name: value for name, value in values.items() if name not in tensors})


def unpack(packed: Packed) -> dict[str, Any]:
    """The packed values, as views of the shared memory."""
    return packed.others | _views(packed.buffer, packed.layout)


def _views(
    buffer: torch.Tensor, layout: list[tuple[str, torch.dtype, tuple[int, ...], int]]
) -> dict[str, torch.Tensor]:
    return {
        name: buffer[start : start + prod(shape) * dtype.itemsize].view(dtype).view(shape)
        for name, dtype, shape, start in layout
    }
