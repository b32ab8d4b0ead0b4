"""Random Fourier features of a few scalars, with a bandwidth per input (Tancik et al., arXiv 2006.10739)."""

from collections.abc import Sequence

import torch
from torch import nn


class FourierFeatures(nn.Module):
    """x => [sin(W x), cos(W x)] with W ~ N(0, sigma_i^2) per input i, drawn once and saved with the weights.

    A sigma is in radians per unit of its input. With sigma 1, an input in [-1, 1] makes about one turn; steps of
    1/sigma can be distinguished.
    """

    frequencies: torch.Tensor

    def __init__(self, sigmas: Sequence[float], num_frequencies: int, generator: torch.Generator | None = None):
        super().__init__()
        draws = torch.randn(num_frequencies, len(sigmas), generator=generator)  # (F, I)
        self.register_buffer("frequencies", draws * torch.tensor(list(sigmas)))

    @property
    def width(self) -> int:
        """Number of features."""
        return 2 * self.frequencies.shape[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., I) inputs in [-1, 1] => (..., 2F) features in [-1, 1]."""
        angles = x @ self.frequencies.T  # (..., F)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)  # (..., 2F)
