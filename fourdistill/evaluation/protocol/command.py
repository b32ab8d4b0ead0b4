"""What the model is told to do in an evaluation: a displacement from one frame, and the frame it leads to."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fourdistill.geometry.displacement import Displacement
from fourdistill.geometry.poses import Array

ROUNDING = 1e-4  # tolerance of displacements, so that equal grid steps fall on the same side of a limit


@dataclass(frozen=True)
class FrameKey:
    """One frame of the frames table."""

    scene: str
    camera: str
    frame: int


@dataclass(frozen=True)
class Command:
    """A source frame (the condition), a displacement, and the frame that a perfect model would return."""

    kind: str
    """time, view or joint."""
    source: FrameKey
    target: FrameKey
    displacement: Displacement[Array]
    """A single one, from source to target; kind view has no time, kind time has no view."""
    caption: str | None
    pair_id: int | None = None
    """In the pairs table; None for a cell of a sweep."""
    new_scene: bool = False
    """Whether no training pair shows the scene: the whole scene is held out, not only a camera or time."""

    @property
    def told(self) -> dict[str, Any]:
        """`time`, `azimuth`, `elevation` and `radius` in user units, as floats; None where absent."""
        return self.displacement.to_user()

    def is_large(self, large_gap: float, large_azimuth_deg: float) -> bool:
        """Whether |time| >= `large_gap` or |azimuth| >= `large_azimuth_deg`."""
        time, azimuth = abs(self.displacement.time), np.degrees(abs(self.displacement.azimuth))
        return bool(time >= large_gap - ROUNDING or azimuth >= large_azimuth_deg - ROUNDING)

    def size(self) -> float:
        """The size of the displacement, in [0, 1]; see `sizes`."""
        return float(sizes(self.displacement))

    def moved_like(self, other: "Command") -> "Command":
        """The same source and target with another command's displacement, of the same kind."""
        return replace(self, displacement=other.displacement)

    def still(self) -> "Command":
        """The same source and target with a displacement of zero, of the same kind."""
        return replace(self, displacement=self.displacement.still())

    def label(self) -> str:
        """A short description of the commanded displacement, to label an image."""
        told = self.told
        words = [] if told["time"] is None else [f"time {told['time']:+.2f}"]
        if told["azimuth"] is not None:
            words.append(f"az {told['azimuth']:+.0f}°")
            words += [f"el {told['elevation']:+.0f}°"] if abs(told["elevation"]) >= 0.5 else []
        return " ".join(words)


def sizes(displacement: Displacement[Array]) -> Array:
    """Sizes of displacements (...), in [0, 1]: the larger of |time| and |azimuth| / pi."""
    return np.maximum(np.abs(displacement.time), np.abs(displacement.azimuth) / np.pi)
