"""Volume rendering: from values at lattice points to ray colours, by alpha compositing over a known background."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fourdistill.teacher.rays import RaySamples

EMPTY = -4.0
"""Raw density of lattice points outside the hull; softplus converts it to 0.018 per step."""


def render_rays(samples: RaySamples, raw: Tensor, background: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Raw density and colour (V, 4) of the vertices, background (R, 3) => colour (R, 3), alpha (R,), distance (R,).

    The distance is the weighted mean along a ray, over scene scale; it is meaningless where alpha is 0.
    """
    mixed = _MatrixProduct.apply(samples.from_vertices, samples.to_vertices, raw)
    density = F.softplus(mixed[:, 0] + EMPTY * samples.outside)
    color = torch.sigmoid(mixed[:, 1:] / (1 - samples.outside).clamp(min=0.05)[:, None])
    weights = compositing_weights(density, samples.ray, samples.first)
    columns = torch.cat([color, torch.ones_like(density)[:, None], samples.distance[:, None]], 1)
    sums = columns.new_zeros(len(samples.first), 5).index_add(0, samples.ray, columns * weights[:, None])
    alpha = sums[:, 3]
    return sums[:, :3] + (1 - alpha)[:, None] * background, alpha, sums[:, 4] / alpha.clamp(min=1e-6)


def compositing_weights(density: Tensor, ray: Tensor, first: Tensor) -> Tensor:
    """Optical depths (S,) of samples sorted by ray and distance => the weight of each in its ray's colour, (S,).

    `ray` (S,) is the ray of each sample, `first` (R,) the first sample of each ray.
    """
    before = torch.cumsum(density.double(), 0) - density  # over all rays; double, because the sum becomes large
    transmittance = torch.exp(-(before - before[first][ray]).float())
    return transmittance * (1 - torch.exp(-density))


class _MatrixProduct(torch.autograd.Function):
    """Product of sparse and dense with a precomputed transpose: autograd would transpose at every step."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transpose: Tensor, dense: Tensor) -> Tensor:
        ctx.transpose = transpose
        return matrix @ dense

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transpose @ gradients[0].contiguous()
