"""Image embeddings stored as codes: a few hundred numbers per frame, instead of CLIP-H's 257 x 1280.

A set of features or shards with a file `codec.safetensors` contains codes (K,) where others contain embeddings (S, D).
"""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save_file

from fourdistill.errors import InputError
from fourdistill.models.codec import EmbeddingCodec
from fourdistill.storage.store import Store, checksum

CODEC = "codec.safetensors"
_EXPECTED = "the codec with which encode_frames made the set's codes"


def save_codec(codec: EmbeddingCodec, path: Path) -> None:
    """Write a codec in half precision."""
    save_file({name: value.half().contiguous() for name, value in codec.state_dict().items()}, path)


def load_codec(store: Store) -> EmbeddingCodec:
    """The codec of a set; raises `InputError` if there is none, or if it cannot be read."""
    try:
        tensors = load(store.read(CODEC, _EXPECTED))
        width, (size, num_components) = len(tensors["mean"]), tensors["components"].shape
        codec = EmbeddingCodec(size // width, width, num_components)
        codec.load_state_dict(tensors)
    except (SafetensorError, KeyError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise InputError(f"{store.path(CODEC)}: expected {_EXPECTED}: {error}") from error
    return codec


def copy_codec(source: Store, target: Store) -> dict[str, Any] | None:
    """Copy the codec of a set to another set; return its entry for an index, or None if there is none."""
    if not source.has(CODEC):
        return None
    with target.file(CODEC) as path:
        path.write_bytes(source.read(CODEC, _EXPECTED))
        return {"name": CODEC, **checksum(path)}
