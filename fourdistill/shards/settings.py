"""The parameters of the stage `write_shards`."""

from typing import Literal

from pydantic.dataclasses import dataclass

from fourdistill.config import STRICT, Jobs, PositiveFloat, PositiveInt


@dataclass(frozen=True, config=STRICT)
class WriteShards:
    """Pairs, frames and features to tars."""

    shard_size_mb: PositiveFloat
    max_pairs: PositiveInt | None  # per split
    features: bool
    engine: Literal["loky", "ray"]
    jobs: Jobs  # -1: one per core
