"""Factorised planes over x, y, z and t (K-Planes, Fridovich-Keil et al. 2023, arXiv 2301.10241) and a small decoder."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SPACE_PLANES = ((0, 1), (0, 2), (1, 2))
NUM_FEATURES, HIDDEN = 24, 32


class KPlanes(nn.Module):
    """The feature of a point is the product of six planes' values; a decoder converts it to density and colour.

    Planes have one cell per lattice point and one per instant, so that space needs no interpolation.
    """

    def __init__(self, shape: Sequence[int], num_instants: int, generator: torch.Generator):
        super().__init__()
        self.shape = tuple(shape)
        self.space = nn.ParameterList(
            torch.rand(shape[a] * shape[b], NUM_FEATURES, generator=generator) * 0.4 + 0.3 for a, b in SPACE_PLANES
        )
        # Initialised to about 1, so that the space planes determine the product: static parts need no change in time.
        self.time = nn.ParameterList(
            1 + 0.02 * torch.randn(num_instants, n, NUM_FEATURES, generator=generator) for n in shape
        )
        self.decoder = nn.Sequential(
            nn.Linear(NUM_FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 4)
        )
        with torch.no_grad():
            for layer in self.decoder:
                if isinstance(layer, nn.Linear):
                    bound = layer.in_features**-0.5
                    layer.weight.copy_((torch.rand(layer.weight.shape, generator=generator) * 2 - 1) * bound)
                    layer.bias.zero_()

    def forward(self, index: Tensor, instant: float) -> Tensor:
        """Lattice points (V, 3) int64, instant in [0, N - 1] => raw density and colour (V, 4)."""
        before = min(int(instant), self.time[0].shape[0] - 2)
        weight = instant - before
        features: Tensor | float = 1.0
        for (a, b), plane in zip(SPACE_PLANES, self.space, strict=True):
            features = F.embedding(index[:, a] * self.shape[b] + index[:, b], plane) * features
        for axis, plane in enumerate(self.time):
            line = torch.lerp(plane[before], plane[before + 1], weight)  # (n, F)
            features = F.embedding(index[:, axis], line) * features
        return self.decoder(features)

    def roughness(self) -> tuple[Tensor, Tensor]:
        """Mean squared differences of all planes along space, and mean squared second differences along time."""
        space = torch.zeros(())
        for (a, b), plane in zip(SPACE_PLANES, self.space, strict=True):
            grid = plane.view(self.shape[a], self.shape[b], -1)
            space = space + grid.diff(dim=0).square().mean() + grid.diff(dim=1).square().mean()
        time = torch.zeros(())
        for plane in self.time:
            space = space + plane.diff(dim=1).square().mean()
            if len(plane) > 2:
                time = time + plane.diff(n=2, dim=0).square().mean()
        return space, time
