"""Undecoded samples to values for training, and values to batches."""

import io
import json
import math
import struct
from dataclasses import dataclass, fields
from tokenize import TokenError
from typing import Any

import numpy as np
import torch
from PIL import Image

from fourdistill.geometry.displacement import Displacement
from fourdistill.tables import KINDS

FEATURES = ("target_latents", "source_embeds")
PICTURES = ("source", "target")
# Errors from decoding invalid data: JSON, NumPy's header (which is Python source) and Pillow.
DECODE_ERRORS: tuple[type[Exception], ...] = (
    KeyError, ValueError, TypeError, OSError, EOFError, OverflowError, MemoryError, RecursionError, SyntaxError,
    TokenError, struct.error, Image.DecompressionBombError,
)  # fmt: skip
_LARGEST = torch.finfo(torch.float32).max
_POSE = ("delta_azimuth", "delta_elevation", "delta_radius")


@dataclass(frozen=True)
class Batch:
    """B pairs, on the CPU."""

    target_latents: torch.Tensor
    """(B, C, h, w) in the precision of the shards, fp16; scaled latents of frame i, the target."""
    source_embeds: torch.Tensor
    """(B, T, D) in the precision of the shards, fp16; image embeddings of frame j, the condition."""
    displacement: Displacement[torch.Tensor]
    """(B,) float32, from frame j to frame i; time is absent for kind view, the view for kind time."""
    caption: list[str]
    """Empty if there is none."""
    pair_id: torch.Tensor
    """(B,) int64."""
    weight: torch.Tensor
    """(B,) float32, in the loss; 1 for targets that are real frames."""
    source_images: torch.Tensor | None = None
    """(B, 3, H, W) uint8, only when asked for."""
    target_images: torch.Tensor | None = None
    """(B, 3, H, W) uint8, only when asked for."""

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Batch":
        """A batch from the flat output of `collate`; workers send only tensors, not objects that contain them."""
        names = [field.name for field in fields(Displacement)]
        moved = Displacement(**{name: values[name] for name in names})
        return cls(displacement=moved, **{name: value for name, value in values.items() if name not in names})


@dataclass(frozen=True)
class Row:
    """One decoded sample."""

    pair_id: int
    numbers: list[float]
    """1 + 12 + 3: normalized_gap, relative_pose, spherical displacement."""
    kind: str
    caption: str
    weight: float
    arrays: dict[str, np.ndarray]
    """By member: features, and images (H, W, 3) if requested."""


def suffixes(images: bool) -> tuple[str, ...]:
    """The suffixes of the members to read."""
    pictures = tuple(f".{name}.jpg" for name in PICTURES) if images else ()
    return (".json", *(f".{name}.npy" for name in FEATURES), *pictures)


class Decoder:
    """Samples to rows; all samples must have arrays of the first sample's shapes."""

    def __init__(self, images: bool):
        self._images = images
        self._shapes: dict[str, tuple[int, ...]] = {}

    def decode(self, sample: dict[str, Any]) -> Row:
        """Raises one of `DECODE_ERRORS` if the sample is not as written by write_shards."""
        pair = json.loads(sample["json"])
        pose, displacement = pair["relative_pose"] or [0.0] * 12, [pair[name] or 0.0 for name in _POSE]
        numbers = [pair["normalized_gap"], *pose, *displacement]
        kind, caption, pair_id = pair["kind"], pair["caption"] or "", pair["pair_id"]
        weight = pair.get("weight", 1.0)  # absent without a teacher
        if len(numbers) != 16 or not all(map(math.isfinite, numbers)) or max(map(abs, numbers)) > _LARGEST:
            raise ValueError("expected a gap, 12 numbers of a pose and 3 of a displacement, all finite in float32")
        if kind not in KINDS or not isinstance(caption, str):
            raise ValueError("expected a kind and a caption")
        if type(pair_id) is not int or not 0 <= pair_id < 2**63:  # excludes True
            raise ValueError("expected a pair_id of at most 63 bits")
        if not 0 < weight <= 1:
            raise ValueError("expected a weight above 0 and at most 1")
        caption.encode()  # rejects lone surrogates, which JSON allows
        arrays = {name: read_npy(sample[f"{name}.npy"]) for name in FEATURES}
        if self._images:
            arrays |= {name: _read_jpeg(sample[f"{name}.jpg"]) for name in PICTURES}
        self._check_shapes(arrays)
        return Row(pair_id, numbers, kind, caption, weight, arrays)

    def _check_shapes(self, arrays: dict[str, np.ndarray]) -> None:
        shapes = {name: array.shape for name, array in arrays.items()}
        self._shapes = self._shapes or shapes
        if shapes != self._shapes:
            raise ValueError(f"expected arrays {self._shapes} as in the samples before, found {shapes}")


_headers: dict[bytes, tuple[np.dtype[Any], tuple[int, ...]]] = {}  # cache: a data set has few distinct headers


def read_npy(data: bytes) -> np.ndarray:
    """An .npy file as a view of its bytes; never unpickles. Raises one of `DECODE_ERRORS` if invalid."""
    start = 10 + int.from_bytes(data[8:10], "little")  # format 1.0, as written by np.save
    header = data[:start]
    if header not in _headers:
        stream = io.BytesIO(data)
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("expected an .npy file of format 1.0")
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
        if fortran_order or dtype.kind != "f" or dtype.itemsize > 8:  # torch has no longer type
            raise ValueError(f"expected floating-point numbers in C order, found {dtype}")
        if len(_headers) > 1000:
            _headers.clear()
        _headers[header] = dtype, shape
    dtype, shape = _headers[header]
    return np.frombuffer(data, dtype, offset=start).reshape(shape)


def _read_jpeg(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data), formats=["JPEG"]).convert("RGB"))


def collate(rows: list[Row]) -> dict[str, Any]:
    """Rows to the values of a `Batch`."""
    numbers = np.array([row.numbers for row in rows], np.float32)  # (B, 16)
    kinds = [row.kind for row in rows]
    displacement = Displacement.from_pairs(kinds, numbers[:, 0], numbers[:, 1:13], numbers[:, 13:])
    pictures = {f"{name}_images": _stack(rows, name).permute(0, 3, 1, 2) for name in PICTURES if name in rows[0].arrays}
    return {
        "target_latents": _stack(rows, "target_latents"),  # (B, C, h, w)
        "source_embeds": _stack(rows, "source_embeds"),  # (B, T, D)
        **vars(displacement.map(_to_tensor)),
        "caption": [row.caption for row in rows],
        "pair_id": torch.tensor([row.pair_id for row in rows]),
        "weight": torch.tensor([row.weight for row in rows], dtype=torch.float32),
        **pictures,
    }


def _to_tensor(values: np.ndarray) -> torch.Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor.float() if tensor.is_floating_point() else tensor


def _stack(rows: list[Row], name: str) -> torch.Tensor:
    return torch.from_numpy(np.stack([row.arrays[name] for row in rows]))
