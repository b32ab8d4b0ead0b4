"""Image embeddings stored as codes: a few hundred numbers per frame, instead of CLIP-H's 257 x 1280.

A set of features or shards with a file `codec.safetensors` contains codes (K,) where others contain embeddings (S, D).
"""

import hashlib
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


def load_codec(store: Store, sha256: str | None = None) -> EmbeddingCodec:
    """The codec of a set; raises `InputError` if there is none, if it cannot be read, or has another `sha256`."""
    content = store.read(CODEC, _EXPECTED)
    if sha256 is not None and (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise InputError(f"{store.path(CODEC)}: sha256: expected {sha256} by the set's index, found {found}")
    try:
        tensors = load(content)
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
