"""Feature files: one safetensors file per camera, written as a whole, read row by row.

A file `<features>/<scene>/<camera>.safetensors` holds `frame_index` int32 (N,), `latents` fp16 (N, C, h, w), the VAE's
posterior mean times its scaling factor, and `image_embeds` fp16 (N, S, D), the image encoder's penultimate states.
Optionally it also holds the embeddings of augmented frames (`features.augmentations`), such as `mirrored_embeds`. If
there is a `codec.safetensors`, all embeddings are stored as its codes, (N, K) each (`features.codes`).
"""

from collections.abc import Iterator
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.numpy import save_file

from fourdistill.errors import InputError
from fourdistill.features.coded import with_codes
from fourdistill.features.codes import load_codec
from fourdistill.features.images import IMAGE_EMBEDS, LATENTS, Encode, read_frame
from fourdistill.features.settings import EncodeFrames
from fourdistill.features.tensors import MappedTensors, RemoteTensors, open_tensors
from fourdistill.frames.all_frames import ORDER, FrameStores, TeacherFrames, open_frames, read_all_frames
from fourdistill.models.codec import EmbeddingCodec
from fourdistill.storage.fanout import fan_out
from fourdistill.storage.store import Store, checksum, new_set, open_set
from fourdistill.tables import FORMAT_VERSION

FRAME_INDEX = "frame_index"
_FEATURES = "features of encode_frames"
_MAX_OPEN = 128  # files on disk; for remote files, only headers are kept
_MAX_HEADERS = 1024


def encode_frames(
    frames_table: Path,
    frames_dir: Path | str,
    out: Path | str,
    encode: Encode,
    settings: EncodeFrames,
    *,
    teacher: TeacherFrames | None = None,
    index_copy: Path | None = None,
) -> None:
    """Run `encode` over every frame of the table, `settings.batch_size` at a time, and write one file per camera.

    The frames of a `teacher` are encoded likewise. Frames and `out` may each be a folder or an fsspec address. A
    remote `out` has an index, which is also written to `index_copy`. Cameras are distributed over workers, so `encode`
    must be picklable. Existing output is replaced completely. Raises `InputError` for an unreadable frame or features
    outside the range of fp16.
    """
    table = read_all_frames(frames_table, teacher, [*ORDER, "path", "split"])
    frames = open_frames(frames_dir, teacher)
    with new_set(out, {".safetensors"}, depth=1, index_copy=index_copy) as store:
        if settings.codec.num_components is not None:
            encode = with_codes(encode, table, frames, store, settings)
        written = fan_out(
            partial(_encode_camera, encode, frames, store, settings.batch_size),
            list(_cameras(table)),
            engine=settings.engine,
            jobs=settings.jobs,
            description="encode_frames",
            gpus=settings.gpus,
        )
        if store.is_remote:
            store.write_index({"version": FORMAT_VERSION, "features": written})


def _encode_camera(
    encode: Encode, stores: FrameStores, store: Store, batch_size: int, task: tuple[str, str, pa.Table]
) -> dict[str, Any]:
    """Write the features of the camera of `task`; return its entry in the index of a remote set."""
    scene, camera, rows = task
    frames, batches = stores.of(scene, camera), []
    for start in range(0, rows.num_rows, batch_size):
        paths = rows["path"][start : start + batch_size].to_pylist()
        batches.append(encode(list(frames.each(partial(read_frame, frames), paths))))
    features = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    tensors = _to_half(features, f"{scene}/{camera}")
    tensors[FRAME_INDEX] = rows["frame_index"].to_numpy().astype(np.int32)
    name = f"{scene}/{camera}.safetensors"
    with store.file(name) as path:
        save_file(tensors, path)
        return {"name": name, **(checksum(path) if store.is_remote else {})}


def _cameras(table: pa.Table) -> Iterator[tuple[str, str, pa.Table]]:
    """(scene, camera, its rows) of a table sorted by scene and camera."""
    scene, camera = (table[name].combine_chunks().dictionary_encode() for name in ("scene", "camera"))
    changes = np.diff(scene.indices.to_numpy(), prepend=-1) != 0
    changes |= np.diff(camera.indices.to_numpy(), prepend=-1) != 0
    starts = np.flatnonzero(changes)
    for start, stop in zip(starts, [*starts[1:], table.num_rows], strict=True):
        yield scene[start].as_py(), camera[start].as_py(), table.slice(start, stop - start)


def _to_half(features: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    half = {}
    for feature, values in features.items():
        with np.errstate(over="ignore"):  # checked below, with the feature's name
            half[feature] = np.ascontiguousarray(values, np.float16)
        if not np.isfinite(half[feature]).all():
            raise InputError(f"{name}: {feature}: expected finite values within fp16")
    return half


class FeatureReader:
    """Features by (scene, camera, frame_index), from a folder or an address; thread-safe."""

    def __init__(self, features: Path | str) -> None:
        self.store = open_set(features, "encode_frames")
        size = _MAX_HEADERS if self.store.is_remote else _MAX_OPEN
        self._file = lru_cache(size)(partial(_open_features, self.store))

    def read(self, scene: str, camera: str, frame_index: int, name: str) -> np.ndarray:
        """One frame's `latents` (C, h, w) or `image_embeds`, (S, D) or codes (K,), fp16; `InputError` if missing."""
        file = f"{scene}/{camera}.safetensors"
        tensors, rows = self._file(file)
        if frame_index not in rows:
            raise InputError(f"{self.store.path(file)}: {FRAME_INDEX}: expected frame {frame_index}, found none")
        if name not in tensors.names:
            raise InputError(f"{self.store.path(file)}: {name}: expected this tensor, found none; see encode_frames")
        return tensors.row(name, rows[frame_index])

    def to_embeds(self, stored: np.ndarray) -> torch.Tensor:
        """Image embeddings (N, S, D) as they are, or codes (N, K) => image embeddings (N, S, D)."""
        values = torch.from_numpy(stored)
        return self._codec.decode(values.float()) if values.ndim == 2 else values

    @cached_property
    def _codec(self) -> EmbeddingCodec:
        return load_codec(self.store)


def _open_features(store: Store, file: str) -> tuple[MappedTensors | RemoteTensors, dict[int, int]]:
    """The tensors of a file, and the row of each frame in them."""
    tensors = open_tensors(store, file, _FEATURES)
    if missing := {LATENTS, IMAGE_EMBEDS, FRAME_INDEX} - tensors.names:
        raise InputError(f"{store.path(file)}: {', '.join(sorted(missing))}: expected these tensors, found none")
    return tensors, {int(index): row for row, index in enumerate(tensors.whole(FRAME_INDEX))}
