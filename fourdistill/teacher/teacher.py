"""What every 4D representation that can teach has in common: it renders."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Rendering:
    """`image` (H, W, 3) in [0, 1]; `alpha` (H, W) in [0, 1], how much of a pixel is the foreground; `depth` (H, W).

    Depth is along the camera's +z, in the units of the poses, to the foreground; infinite where there is none.
    """

    image: Array
    alpha: Array
    depth: Array


class Teacher(Protocol):
    """Renders one scene."""

    def render(self, c2w: ArrayLike, K: ArrayLike, time: float) -> Rendering:
        """Pose (4, 4), OpenCV axes, the scene's units; intrinsics (3, 3) in pixels; time in [0, 1] => what is seen.

        Pictures have the size of the frames that the teacher was fitted to, and K speaks of that size.
        """
        ...
