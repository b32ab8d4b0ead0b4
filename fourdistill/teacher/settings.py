"""The parameters of the stage `reconstruct`."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from fourdistill.config import STRICT, Jobs, NonNegativeFloat, PositiveFloat, PositiveInt


@dataclass(frozen=True, config=STRICT)
class Fit:
    """Steps, learning rate, loss weights and checkpoints of the fit of one scene."""

    passes: PositiveInt  # over all instants, one step each
    lr: PositiveFloat  # of the planes; the decoder's is a tenth
    silhouette: NonNegativeFloat  # weight of the error of alpha against the mask
    neighbours: NonNegativeFloat  # of differences in density and colour between lattice neighbours
    space: NonNegativeFloat  # of the planes' roughness in space
    time: NonNegativeFloat  # of the planes' roughness in time
    checkpoint_passes: PositiveInt  # passes between checkpoints


@dataclass(frozen=True, config=STRICT)
class Splatting:
    """Number of Gaussians, steps and checkpoints of the fit of one scene with gsplat."""

    num_splats: PositiveInt  # of a scene, over all instants
    passes: PositiveInt  # over all instants, one step on all cameras each
    lr: PositiveFloat  # factor of the learning rates of 3D Gaussian splatting
    silhouette: NonNegativeFloat  # weight of the error of alpha against the mask
    checkpoint_passes: PositiveInt  # passes between checkpoints


@dataclass(frozen=True, config=STRICT)
class Gate:
    """The bounds that a scene must reach to teach: PSNR in dB over the figure's box in a held-out camera."""

    min_cameras: Annotated[int, Field(ge=2)]  # with the held-out one
    least_box: float
    least_gain: float  # above the nearest camera's own frames


@dataclass(frozen=True, config=STRICT)
class Reconstruct:
    """Posed frames of a scene to frames of new cameras."""

    enabled: bool
    representation: Literal["kplanes", "gsplat"]
    num_cameras: PositiveInt  # new ones of each scene
    floor: float | None  # height over the scene's scale, from its centre; None: searched
    jpeg_quality: Annotated[int, Field(ge=1, le=100)]  # Pillow's, 100 is best
    fit: Fit  # of kplanes
    splats: Splatting  # of gsplat
    gate: Gate
    engine: Literal["loky", "ray"]
    jobs: Jobs  # -1: one per core
