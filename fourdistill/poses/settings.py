"""The parameters of the stage `estimate_poses`."""

from pydantic.dataclasses import dataclass

from fourdistill.config import STRICT, PositiveInt


@dataclass(frozen=True, config=STRICT)
class EstimatePoses:
    """Poses of the films of sources with `poses: estimate`, by structure from motion."""

    size: PositiveInt  # pixels, the longer side of the pictures that it works on
    max_pictures: PositiveInt  # of each film, at even distances
