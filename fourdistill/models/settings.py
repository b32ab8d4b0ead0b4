"""The architectures of mappers and prior, as `params.yaml` declares them. Importing this loads no torch."""

from typing import Literal, get_args

from pydantic.dataclasses import dataclass

from fourdistill.config import STRICT, Count, Fraction, NonNegativeFloat, PositiveInt

MapperInput = Literal["displacement_and_source", "displacement"]
MAPPER_INPUTS: tuple[MapperInput, ...] = get_args(MapperInput)
ViewEncoding = Literal["spherical", "matrix"]  # see `models.view_encoding`


@dataclass(frozen=True, config=STRICT)
class MapperSettings:
    """The architecture of the mappers: `train.mappers` in `params.yaml`.

    `rank` is not for displacement-only mappers, and what follows it is for them alone.
    """

    mapper_input: MapperInput  # displacement: the original's, without a prior
    num_words: PositiveInt | None  # per layer; None: the number of image prompt tokens
    rank: PositiveInt | None  # of what is trained of each layer's maps; None: all of them is
    num_frequencies: PositiveInt  # Fourier features
    hidden_width: PositiveInt
    sigma_time: NonNegativeFloat  # bandwidths: radians per unit
    sigma_view: NonNegativeFloat  # on sin and cos of the azimuth: harmonics that distinguish cameras 45 degrees apart
    sigma_timesteps: NonNegativeFloat
    sigma_layer: NonNegativeFloat

    @property
    def sees_source(self) -> bool:
        """Whether the words also depend on frame j, not only on the displacement."""
        return self.mapper_input == "displacement_and_source"


@dataclass(frozen=True, config=STRICT)
class Sampling:
    """How an adapter's pictures are drawn from an image, unless asked otherwise: `train.sampling` in `params.yaml`."""

    guidance_scale: NonNegativeFloat  # away from the prediction without any condition; 1 is none, in half the time
    noise_scale: Fraction  # of the initial noise: with less, pictures are more accurate and differ less by seed


AS_TRAINED = Sampling(guidance_scale=1.0, noise_scale=1.0)
"""Neither guidance nor less noise than in training."""


@dataclass(frozen=True, config=STRICT)
class PriorNetwork:
    """The network of a prior: `train_prior.network` in `params.yaml`."""

    width: PositiveInt
    depth: PositiveInt  # residual blocks of the encoder, and of the decoder
    num_rotations: PositiveInt  # points that a displacement rotates
    sigma_time: NonNegativeFloat  # standard deviation of their frequencies, radians per unit of displacement in time
    sigma_view: NonNegativeFloat  # the same for elevation (rad) and radius, or for the entries of a relative pose
    max_azimuth_frequency: Count  # frequencies in azimuth are integers up to this
