"""Gaussians in space and time: each moves along a line, and is visible around a time of its own.

As in Spacetime Gaussians (Li et al. 2024, arXiv 2312.16812) with linear motion, without rotation over time and with one
colour for all directions. At an instant they are ordinary 3D Gaussians (Kerbl et al. 2023, arXiv 2308.04079).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Splats:
    """3D Gaussians of one instant; `quats` need not be normalised (w, x, y, z)."""

    means: Tensor
    """(N, 3) in the scene's frame."""
    quats: Tensor
    """(N, 4)."""
    scales: Tensor
    """(N, 3) standard deviations along the axes, over scene scale."""
    opacities: Tensor
    """(N,) in [0, 1]."""
    colors: Tensor
    """(N, 3) in [0, 1]."""


class Gaussians(nn.Module):
    """N Gaussians; their values at a time in [0, 1] are 3D Gaussians.

    Args:
        means: (N, 3) positions at their own times, in the scene's frame. colors: (N, 3) in [0, 1].
        times: (N,) when they are most visible. scale: initial standard deviation in space. duration: in time.
    """

    def __init__(self, means: Tensor, colors: Tensor, times: Tensor, scale: float, duration: float):
        super().__init__()
        num = len(means)
        self.means = nn.Parameter(means.float())
        self.velocities = nn.Parameter(torch.zeros(num, 3))
        self.quats = nn.Parameter(torch.tensor([1.0, 0, 0, 0]).repeat(num, 1))
        self.log_scales = nn.Parameter(torch.full((num, 3), scale).log())
        self.opacities = nn.Parameter(torch.zeros(num))  # logits
        self.colors = nn.Parameter(torch.logit(colors.float(), eps=0.02))
        self.times = nn.Parameter(times.float())
        self.log_durations = nn.Parameter(torch.full((num,), duration).log())

    @classmethod
    def empty(cls, num: int) -> "Gaussians":
        """Untrained ones, to load weights into."""
        return cls(torch.zeros(num, 3), torch.zeros(num, 3), torch.zeros(num), 1.0, 1.0)

    def at(self, time: float) -> Splats:
        """The 3D Gaussians at a time."""
        since = time - self.times  # (N,)
        visible = torch.exp(-0.5 * (since / self.log_durations.exp()).square())
        return Splats(
            self.means + self.velocities * since[:, None],
            self.quats,
            self.log_scales.exp(),
            torch.sigmoid(self.opacities) * visible,
            torch.sigmoid(self.colors),
        )
