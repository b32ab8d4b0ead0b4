"""The parameters of the stage `encode_frames`, and those of augmentations, which `train_prior` shares."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from fourdistill.config import STRICT, Jobs, NonNegativeFloat, PositiveInt


@dataclass(frozen=True, config=STRICT)
class Augmentations:
    """Which augmented frames are encoded as well and used to train a prior."""

    mirror: bool
    recolour: bool


@dataclass(frozen=True, config=STRICT)
class FrameCodec:
    """Codes in place of image embeddings: how many numbers each, and how many embeddings they are fitted to."""

    num_components: PositiveInt | None  # None: whole embeddings
    num_embeds: Annotated[int, Field(ge=2)]


@dataclass(frozen=True, config=STRICT)
class EncodeFrames:
    """Frames to VAE latents and image embeddings, once per frame."""

    batch_size: PositiveInt
    codec: FrameCodec
    mixed_precision: Literal["auto", "no", "bf16", "fp16"]
    engine: Literal["loky", "ray"]
    jobs: Jobs  # each job loads the base; -1: one per core
    gpus: NonNegativeFloat  # per worker of a Ray cluster
