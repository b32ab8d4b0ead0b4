"""The parameters of the stage `estimate_poses`."""

from pydantic.dataclasses import dataclass

from fourdistill.config import STRICT, PositiveInt


@dataclass(frozen=True, config=STRICT)
class EstimatePoses:
    """Structure from motion for the films of sources with `poses: estimate`."""

    size: PositiveInt  # pixels, longer side of the images used
    max_pictures: PositiveInt  # per film, evenly spaced
