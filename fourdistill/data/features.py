"""Features of frames, computed once: one safetensors file per camera, written whole, read row by row.

A file `<features>/<scene>/<camera>.safetensors` holds `frame_index` int32 (N,), `latents` fp16 (N, C, h, w), the VAE's
posterior mean times its scaling factor, and `image_embeds` fp16 (N, T, D), the image encoder's penultimate states;
if asked for also `mirrored_embeds`, those of the frames' mirror images.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from fourdistill.data.fanout import fan_out
from fourdistill.data.files import new_file, new_folder
from fourdistill.data.tables import FRAMES, read_table
from fourdistill.errors import InputError

Encode = Callable[[list[Image.Image]], dict[str, np.ndarray]]
"""RGB images (B) => {"latents": (B, C, h, w), "image_embeds": (B, T, D), maybe "mirrored_embeds": (B, T, D)}."""

LATENTS, IMAGE_EMBEDS, FRAME_INDEX = "latents", "image_embeds", "frame_index"
_MAX_OPEN = 128  # files


def encode_frames(
    frames_table: Path,
    frames_dir: Path,
    out_dir: Path,
    encode: Encode,
    batch_size: int,
    *,
    engine: str = "loky",
    jobs: int = 1,
    gpus: float = 0,
) -> None:
    """Run `encode` over every frame of the table, `batch_size` at a time, and write one file per camera.

    Cameras are shared by `jobs` workers of `engine`, each with `gpus` GPUs of a Ray cluster; `encode` must then be
    something that can be pickled. The folder is replaced whole. Raises `InputError` for a frame that cannot be read,
    or features beyond fp16.
    """
    table = read_table(frames_table, FRAMES, ["scene", "camera", "frame_index", "path"])
    with new_folder(out_dir, suffixes={".safetensors"}) as partial_dir:
        fan_out(
            partial(_encode_camera, encode, frames_dir, partial_dir.resolve(), batch_size),
            list(_cameras(table)),
            engine=engine,
            jobs=jobs,
            description="encode_frames",
            gpus=gpus,
        )


def _encode_camera(
    encode: Encode, frames_dir: Path, out_dir: Path, batch_size: int, task: tuple[str, str, pa.Table]
) -> None:
    """Write the features of one camera, which has the rows of `task`."""
    scene, camera, rows = task
    batches = []
    for start in range(0, rows.num_rows, batch_size):
        paths = rows["path"][start : start + batch_size].to_pylist()
        batches.append(encode([open_image(frames_dir / path) for path in paths]))
    features = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    frame_index = rows["frame_index"].to_numpy().astype(np.int32)
    _write_features(out_dir / scene / f"{camera}.safetensors", features, frame_index)


def _cameras(table: pa.Table) -> Iterator[tuple[str, str, pa.Table]]:
    """(scene, camera, its rows) of a table sorted by them."""
    scene, camera = (table[name].combine_chunks().dictionary_encode() for name in ("scene", "camera"))
    changes = np.diff(scene.indices.to_numpy(), prepend=-1) != 0
    changes |= np.diff(camera.indices.to_numpy(), prepend=-1) != 0
    starts = np.flatnonzero(changes)
    for start, stop in zip(starts, [*starts[1:], table.num_rows], strict=True):
        yield scene[start].as_py(), camera[start].as_py(), table.slice(start, stop - start)


def open_image(path: Path) -> Image.Image:
    """A picture from a file as RGB; raises `InputError` naming a file that cannot be read."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow's, by kind of damage
        raise InputError(f"{path}: expected a readable picture: {' '.join(str(error).split())}") from error


def _write_features(path: Path, features: dict[str, np.ndarray], frame_index: np.ndarray) -> None:
    half = {}
    for name, values in features.items():
        with np.errstate(over="ignore"):  # checked here, with a name to it
            half[name] = np.ascontiguousarray(values, np.float16)
        if not np.isfinite(half[name]).all():
            raise InputError(f"{path.parent.name}/{path.stem}: {name}: expected finite values within fp16")
    with new_file(path) as partial:
        save_file(half | {FRAME_INDEX: frame_index}, partial)


class FeatureReader:
    """Features by (scene, camera, frame_index); files are memory-mapped and stay open while in use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: OrderedDict[tuple[str, str], tuple[Any, dict[int, int]]] = OrderedDict()

    def read(self, scene: str, camera: str, frame_index: int, name: str) -> np.ndarray:
        """One frame's `latents` (C, h, w) or `image_embeds` (T, D), fp16; raises `InputError` where there are none."""
        tensors, rows = self._file(scene, camera)
        if frame_index not in rows:
            raise InputError(f"{self._path(scene, camera)}: {FRAME_INDEX}: expected frame {frame_index}, found none")
        row = rows[frame_index]
        if name not in tensors.keys():  # noqa: SIM118  # safetensors' handle is no dictionary
            raise InputError(
                f"{self._path(scene, camera)}: {name}: expected this tensor, found none; see encode_frames"
            )
        return tensors.get_slice(name)[row : row + 1][0]

    def _path(self, scene: str, camera: str) -> Path:
        return self._folder / scene / f"{camera}.safetensors"

    def _file(self, scene: str, camera: str) -> tuple[Any, dict[int, int]]:
        key = (scene, camera)
        if key not in self._open:
            path = self._path(scene, camera)
            try:
                tensors: Any = safe_open(path, framework="numpy")
                missing = {LATENTS, IMAGE_EMBEDS, FRAME_INDEX} - set(tensors.keys())
            except (OSError, SafetensorError) as error:
                raise InputError(f"{path}: expected features of encode_frames: {error}") from error
            if missing:
                raise InputError(f"{path}: {', '.join(sorted(missing))}: expected these tensors, found none")
            rows = {int(index): row for row, index in enumerate(tensors.get_tensor(FRAME_INDEX))}
            self._open[key] = (tensors, rows)
            if len(self._open) > _MAX_OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(key)
        return self._open[key]
