"""Displacements of a batch, as tensors."""

from collections.abc import Sequence

import torch

from fourdistill.geometry.displacement import Displacement


def some_displacements(
    has_time: Sequence[bool], has_view: Sequence[bool], generator: torch.Generator | None = None
) -> Displacement[torch.Tensor]:
    """Random displacements with the given masks; masked values are random, too."""
    generator, batch = generator or torch.Generator().manual_seed(0), len(has_time)
    time, azimuth, elevation, radius = torch.rand(4, batch, generator=generator) * 2 - 1
    pose = torch.randn(batch, 12, generator=generator)
    masks = torch.tensor(has_time), torch.tensor(has_view)
    return Displacement(time, azimuth, elevation, radius, pose, *masks)
