"""The codec of shards whose image embeddings are stored as codes; all sources of a mixture must share it."""

from fourdistill.errors import InputError
from fourdistill.features.codes import CODEC, load_codec
from fourdistill.models.codec import EmbeddingCodec
from fourdistill.shards.loader.shard_list import Shards, list_shards, to_sources
from fourdistill.storage.store import Store


def load_shards_codec(shards: Shards) -> EmbeddingCodec | None:
    """The codec of all sources, or None if they contain whole embeddings.

    Raises `InputError` if the sources differ, or if a codec is missing or cannot be read.
    """
    found = [shard for source in to_sources(shards) for shard in list_shards(source.address)]
    codecs = {shard.url.rpartition("/")[0] or ".": shard.codec for shard in found}
    first, codec = next(iter(codecs.items()))
    for folder, other in codecs.items():
        if other != codec:
            raise InputError(f"{folder}/{CODEC}: expected the codec of {first}, found {'another' if other else 'none'}")
    return None if codec is None else load_codec(Store(first), codec)
