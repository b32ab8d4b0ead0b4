"""An encoder that gives codes in place of image embeddings, and the fit of its codec to a sample of the frames."""

from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from fourdistill.errors import InputError
from fourdistill.features.codes import CODEC, load_codec, save_codec
from fourdistill.features.images import LATENTS, Encode, read_frame
from fourdistill.features.settings import EncodeFrames
from fourdistill.frames.all_frames import FrameStores
from fourdistill.models.codec import EmbeddingCodec, fit_codec
from fourdistill.storage.fanout import fan_out
from fourdistill.storage.files import sha256
from fourdistill.storage.store import Store


@dataclass(frozen=True)
class CodedEncoder:
    """Frames => their features, with codes by the codec in `store` in place of image embeddings."""

    encode: Encode
    store: Store
    sha256: str
    """Of the codec; a worker process may have loaded an older one from the same place."""

    def __call__(self, images: list[Image.Image]) -> dict[str, np.ndarray]:
        """N frames of one size => arrays of N rows."""
        codec = _load(self.store, self.sha256)
        return {
            name: values if name == LATENTS else codec.encode(torch.from_numpy(values).float()).numpy()
            for name, values in self.encode(images).items()
        }


@lru_cache(maxsize=1)
def _load(store: Store, sha256: str) -> EmbeddingCodec:
    return load_codec(store)


def with_codes(
    encode: Encode, table: pa.Table, frames: FrameStores, store: Store, settings: EncodeFrames
) -> CodedEncoder:
    """Fit a codec to training frames of the table, and write it to `store`.

    It is fitted to `settings.codec.num_embeds` embeddings of frames at even distances, of all augmentations in turn.
    Raises `InputError` if there are fewer than two training frames.
    """
    assert settings.codec.num_components is not None
    train = np.flatnonzero(np.array(table["split"].to_pylist()) == "train")
    if len(train) < 2:
        raise InputError(f"encode_frames.codec: expected two training frames to fit it to, found {len(train)}")
    rows = train[np.unique(np.linspace(0, len(train) - 1, settings.codec.num_embeds).round().astype(int))]
    size = settings.batch_size
    embeds = fan_out(
        partial(_sample, encode, frames),
        [(start, table.take(rows[start : start + size])) for start in range(0, len(rows), size)],
        engine=settings.engine,
        jobs=settings.jobs,
        description="fit codec",
        gpus=settings.gpus,
    )
    codec = fit_codec(torch.from_numpy(np.concatenate(embeds)).float(), settings.codec.num_components, seed=0)
    with store.file(CODEC) as path:
        save_codec(codec, path)
        digest = sha256(path)
    return CodedEncoder(encode, store, digest)


def _sample(encode: Encode, frames: FrameStores, part: tuple[int, pa.Table]) -> np.ndarray:
    """One embedding (S, D) of each frame, of its augmentations in turn."""
    first, rows = part
    names = [rows[name].to_pylist() for name in ("scene", "camera", "path")]
    images = [read_frame(frames.of(scene, camera), path) for scene, camera, path in zip(*names, strict=True)]
    features = encode(images)
    kinds = sorted(features.keys() - {LATENTS})
    return np.stack([features[kinds[(first + row) % len(kinds)]][row] for row in range(len(images))])
