"""The codec of shards whose image embeddings are stored as codes; all sources of a mixture must share it."""

from fourdistill.errors import InputError
from fourdistill.features.codes import CODEC, load_codec
from fourdistill.models.codec import EmbeddingCodec
from fourdistill.shards.loader.shard_list import Shards, list_shards, read_codec_hash, to_sources
from fourdistill.storage.store import Store


def load_shards_codec(shards: Shards) -> EmbeddingCodec | None:
    """The codec of all sources, or None if they contain whole embeddings.

    Raises `InputError` if the sources differ, or if a codec is missing or cannot be read.
    """
    folders = {
        shard.url.rpartition("/")[0] or "." for each in to_sources(shards) for shard in list_shards(each.address)
    }
    hashes = {folder: read_codec_hash(folder) for folder in sorted(folders)}
    first, codec = next(iter(hashes.items()))
    for folder, other in hashes.items():
        if other != codec:
            raise InputError(f"{folder}/{CODEC}: expected the codec of {first}, found {'another' if other else 'none'}")
    return None if codec is None else load_codec(Store(first))
