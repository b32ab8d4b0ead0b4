"""The section `train` of `params.yaml`."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from fourdistill.config import STRICT, Count, Fraction, NonNegativeFloat, PositiveFloat, PositiveInt
from fourdistill.models.settings import MapperSettings, Sampling
from fourdistill.shards.loader.opener import ReadOptions
from fourdistill.training.runtime.settings import Checkpointing, Logging, Optimizer, Precision

LossKind = Literal["distill", "ddpm"]


@dataclass(frozen=True, config=STRICT)
class Dropout:
    """How often each condition is dropped independently, and how often all are dropped together.

    The prior's prediction then uses only the remaining displacement; without a prior, guidance needs such samples.
    `bypass` is how often a sample's words stay closer to CLIP's space than with the adapter's own lambda: half of these
    samples have lambda 0, the others a lambda in between. So the words learn to use CLIP's space.
    """

    text: Fraction
    image: Fraction
    time: Fraction
    view: Fraction
    all: Fraction
    bypass: Fraction


@dataclass(frozen=True, config=STRICT)
class Loss:
    """What the U-Net's output under the words is compared with, at which timesteps, and without which conditions."""

    kind: LossKind  # distill: the U-Net's output given the predicted image; ddpm: the true target
    timestep_bias: NonNegativeFloat  # 0: uniform; b: density of t/T proportional to (t/T)^b, favours high noise
    dropout: Dropout


@dataclass(frozen=True, config=STRICT)
class TrainLogging(Logging):
    """The logs of this training: condition gaps and pictures, too."""

    sample_every: PositiveInt
    gap_timesteps: Annotated[list[Count], Field(min_length=1)]  # noise levels of the condition gaps


@dataclass(frozen=True, config=STRICT)
class ShardSource:
    """The address of shards, and their weight in a mixture of sources."""

    address: str
    weight: PositiveFloat = 1.0


@dataclass(frozen=True, config=STRICT, kw_only=True)
class LoaderSettings(ReadOptions):
    """Where the training shards are, and how they are read."""

    sources: list[str | ShardSource]  # empty: paths.shards
    num_workers: Count


@dataclass(frozen=True, config=STRICT)
class Compute:
    """The number format, and what trades memory for time."""

    mixed_precision: Precision
    gradient_checkpointing: bool  # compute the U-Net's activations twice instead of keeping them
    compile: str | None  # a backend of torch.compile for the U-Net


@dataclass(frozen=True, config=STRICT)
class Train:
    """Shards to an adapter."""

    launcher: str | None  # an accelerate config file, or arguments of `accelerate launch`; null: one process
    start: Literal["pretrained", "scratch"]
    ip_adapter: str | None
    max_steps: PositiveInt
    batch_size: PositiveInt  # per step, over all processes
    micro_batches: PositiveInt | None  # number of parts of a batch; null: one per process
    mappers: MapperSettings
    sampling: Sampling
    loss: Loss
    optimizer: Optimizer
    loader: LoaderSettings
    logging: TrainLogging
    checkpoints: Checkpointing
    compute: Compute
