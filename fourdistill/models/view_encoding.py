"""Encoding of displacements as network inputs; the only place where this is done."""

import torch

from fourdistill.geometry.displacement import Displacement

Tensors = Displacement[torch.Tensor]
VIEW_ENCODINGS = {"spherical": 4, "matrix": 12}  # name -> number of values
NUM_ANGLES = {"spherical": 3, "matrix": 12}  # name -> number of values in which a rotation by the view is linear


def to_tensors(displacement: Displacement, device: torch.device, dtype: torch.dtype) -> Tensors:
    """A displacement of arrays or tensors (...) => of tensors, with values in `dtype` and masks unchanged."""

    def change(values: object) -> torch.Tensor:
        tensor = torch.as_tensor(values)
        return tensor.to(device, dtype if tensor.is_floating_point() else None)

    return displacement.map(change)


def encode_view(displacement: Tensors, encoding: str) -> torch.Tensor:
    """Camera displacements of B samples => (B, 4), continuous where the azimuth wraps, or relative poses (B, 12)."""
    if encoding == "matrix":
        return displacement.relative_pose
    azimuth, elevation, radius = displacement.azimuth, displacement.elevation, displacement.radius
    return torch.stack([azimuth.sin(), azimuth.cos(), elevation, radius], dim=-1)  # (B, 4)


def displacement_angles(displacement: Tensors, encoding: str) -> torch.Tensor:
    """Displacements of B samples => (B, 1 + NUM_ANGLES), zero where absent, so that they are additive.

    Time, then azimuth, elevation and radius, or the entries of the relative pose minus those of the identity.
    """
    if encoding == "matrix":
        pose = displacement.relative_pose
        view = pose - torch.eye(3, 4, device=pose.device, dtype=pose.dtype).flatten()  # (B, 12)
    else:
        view = torch.stack([displacement.azimuth, displacement.elevation, displacement.radius], dim=-1)  # (B, 3)
    time = displacement.time[:, None] * displacement.has_time[:, None]  # (B, 1)
    return torch.cat([time, view * displacement.has_view[:, None]], dim=-1)
