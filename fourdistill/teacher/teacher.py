"""The rendering interface of every 4D representation that can teach."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Rendering:
    """`image` (H, W, 3) in [0, 1]; `alpha` (H, W) in [0, 1], the foreground's share of a pixel; `depth` (H, W).

    Depth is that of the foreground along the camera's +z, in the units of the poses, and infinite without foreground.
    """

    image: Array
    alpha: Array
    depth: Array


class Teacher(Protocol):
    """Renders one scene."""

    def render(self, c2w: ArrayLike, K: ArrayLike, time: float) -> Rendering:
        """Pose (4, 4), OpenCV axes, the scene's units; intrinsics (3, 3) in pixels; time in [0, 1] => rendering.

        Pictures have the size of the frames to which the teacher was fitted, and K refers to that size.
        """
        ...
