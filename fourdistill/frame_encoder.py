"""The features of frames by a base that every worker process loads for itself."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from fourdistill.models.base import BaseModel, encode_frames, load_base
from fourdistill.models.precision import default_device


@dataclass(frozen=True)
class FrameEncoder:
    """Frames => their features, see `encode_frames`; small enough to be sent to other processes and machines."""

    base: str
    mixed_precision: str = "no"
    mirror: bool = False

    def __call__(self, images: list[Image.Image]) -> dict[str, np.ndarray]:
        """N frames of one size => arrays of N rows."""
        return encode_frames(_load(self.base), images, self.mixed_precision, self.mirror)


@lru_cache(maxsize=1)
def _load(base: str) -> BaseModel:
    """The base on this process's device, without its IP-Adapter."""
    return load_base(base, with_ip_adapter=False).to(default_device())
