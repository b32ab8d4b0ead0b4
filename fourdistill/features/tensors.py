"""Single rows of the tensors in a safetensors file: by memory map on disk, by range request at an address.

A remote file may be large and its rows far apart, so only the header and the requested rows are fetched.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from fourdistill.errors import InputError
from fourdistill.storage.store import Store

_DTYPES = {"F16": np.dtype("<f2"), "I32": np.dtype("<i4")}
_HEAD_BYTES = 2**14  # first request: the header, and the frame indices of some thousands of frames


class MappedTensors:
    """Tensors of a file on disk; the file stays open."""

    def __init__(self, path: Path, expected: str):
        try:
            self._tensors: Any = safe_open(path, framework="numpy")
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path}: expected {expected}: {error}") from error
        self.names = frozenset(self._tensors.keys())

    def whole(self, name: str) -> np.ndarray:
        """A tensor (N, ...)."""
        return self._tensors.get_tensor(name)

    def row(self, name: str, row: int) -> np.ndarray:
        """A row (...) of a tensor (N, ...)."""
        return self._tensors.get_slice(name)[row : row + 1][0]


class RemoteTensors:
    """Tensors of a remote file: 8 bytes of header length, a JSON header, then the tensors' bytes one after another."""

    def __init__(self, store: Store, file: str, expected: str):
        self._store, self._file, self._expected = store, file, expected
        self._head = store.read(file, expected, 0, _HEAD_BYTES)
        start = 8 + int.from_bytes(self._head[:8], "little")
        try:
            header = json.loads(self._head[8:start])
            self._tensors = {name: _place(entry, start) for name, entry in header.items() if name != "__metadata__"}
        except (ValueError, LookupError, TypeError, AttributeError) as error:  # depending on the file's actual content
            raise InputError(f"{store.path(file)}: expected {expected}, found another header") from error
        self.names = frozenset(self._tensors)

    def whole(self, name: str) -> np.ndarray:
        """A tensor (N, ...)."""
        return self._rows(name, 0, self._tensors[name][1][0])

    def row(self, name: str, row: int) -> np.ndarray:
        """A row (...) of a tensor (N, ...)."""
        return self._rows(name, row, row + 1)[0]

    def _rows(self, name: str, first: int, last: int) -> np.ndarray:
        dtype, shape, offset = self._tensors[name]
        stride = math.prod(shape[1:]) * dtype.itemsize
        start, stop = offset + first * stride, offset + last * stride
        in_head = stop <= len(self._head)  # true for the small tensors, which come first in a file
        data = self._head[start:stop] if in_head else self._store.read(self._file, self._expected, start, stop)
        if len(data) != stop - start:
            raise InputError(f"{self._store.path(self._file)}: {name}: expected {shape} values, the file is cut off")
        return np.frombuffer(data, dtype).reshape(last - first, *shape[1:])


def _place(entry: dict[str, Any], start: int) -> tuple[np.dtype, tuple[int, ...], int]:
    """Type, shape and first byte of a tensor (N, ...); raises `ValueError` or similar if they are inconsistent."""
    dtype, shape = _DTYPES[entry["dtype"]], tuple(map(int, entry["shape"]))
    first, last = map(int, entry["data_offsets"])
    if not shape or last - first != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"expected as many bytes as {shape} values have, found {last - first}")
    return dtype, shape, start + first


def open_tensors(store: Store, file: str, expected: str) -> MappedTensors | RemoteTensors:
    """The tensors of a file; on failure raises `InputError` with the file's name and what was `expected`."""
    return RemoteTensors(store, file, expected) if store.is_remote else MappedTensors(Path(store.path(file)), expected)
