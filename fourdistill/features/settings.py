"""The parameters of the stage `encode_frames`, and of augmentations, which `train_prior` shares."""

from typing import Literal

from pydantic.dataclasses import dataclass

from fourdistill.config import STRICT, Jobs, NonNegativeFloat, PositiveInt


@dataclass(frozen=True, config=STRICT)
class Augmentations:
    """Which changed frames are features, too, and a prior is trained on."""

    mirror: bool
    recolour: bool


@dataclass(frozen=True, config=STRICT)
class EncodeFrames:
    """Frames to VAE latents and image embeddings, once per frame."""

    batch_size: PositiveInt
    mixed_precision: Literal["auto", "no", "bf16", "fp16"]
    engine: Literal["loky", "ray"]
    jobs: Jobs  # each loads the base; -1: one per core
    gpus: NonNegativeFloat  # of each worker of a Ray cluster
