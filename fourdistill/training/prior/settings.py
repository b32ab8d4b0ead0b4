"""The section `train_prior` of `params.yaml`."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from fourdistill.config import STRICT, Count, Fraction, NonNegativeFloat, PositiveInt
from fourdistill.models.settings import PriorNetwork
from fourdistill.training.runtime.settings import Checkpointing, Logging, Optimizer, Precision


@dataclass(frozen=True, config=STRICT)
class Codec:
    """The codes of image embeddings: how many numbers each, and how many embeddings they are fitted to."""

    num_components: PositiveInt
    num_embeds: Annotated[int, Field(ge=2)]


@dataclass(frozen=True, config=STRICT)
class TrainPrior:
    """Pairs and features to a displacement prior."""

    start: Literal["pretrained", "scratch"]
    start_share: Fraction  # share of the pretrained prior's initial weights in the saved average
    max_steps: Count
    batch_size: PositiveInt
    max_sources: PositiveInt  # source images per sample: drawn from 1 to this number at each step
    source_noise: NonNegativeFloat  # noise added to the source's codes, against overfitting
    codec: Codec
    network: PriorNetwork
    optimizer: Optimizer
    logging: Logging
    checkpoints: Checkpointing
    mixed_precision: Precision
