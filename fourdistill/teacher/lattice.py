"""A regular grid of points in the scene's frame, on which the foreground is computed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Lattice:
    """`origin` (3,): lowest corner; `spacing` between neighbours, over scene scale; `shape`: points per axis."""

    origin: tuple[float, float, float]
    spacing: float
    shape: tuple[int, int, int]

    def points(self) -> NDArray[np.float64]:
        """All points (X * Y * Z, 3); the last axis varies fastest."""
        axes = [low + self.spacing * np.arange(n) for low, n in zip(self.origin, self.shape, strict=True)]
        return np.asarray(np.stack(np.meshgrid(*axes, indexing="ij"), -1), np.float64).reshape(-1, 3)

    def coordinates(self, points: ArrayLike) -> NDArray[np.float64]:
        """Points (..., 3) in the scene's frame => lattice steps from the origin."""
        return (np.asarray(points, np.float64) - np.asarray(self.origin)) / self.spacing


def lattice_over(low: ArrayLike, high: ArrayLike, spacing: float) -> Lattice:
    """The smallest lattice with a given spacing that covers the box from `low` (3,) to `high` (3,)."""
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    x, y, z = (int(n) for n in np.ceil((high - low) / spacing) + 1)
    return Lattice((float(low[0]), float(low[1]), float(low[2])), spacing, (x, y, z))
