"""A camera displacement as the numbers that networks read."""

import torch

VIEW_ENCODINGS = {"spherical": 4, "matrix": 12}  # name -> how many numbers


def encode_view(delta_spherical: torch.Tensor, relative_pose: torch.Tensor, encoding: str) -> torch.Tensor:
    """A camera displacement => (B, 4) or (B, 12).

    `delta_spherical` (B, 3) is (azimuth, elevation) in radians and radius over the scene's scale; `relative_pose`
    (B, 12) holds the rows of the 3x4 `source_from_target`. `spherical` is safe where the azimuth wraps around.
    """
    if encoding == "matrix":
        return relative_pose
    azimuth, elevation, radius = delta_spherical.unbind(-1)
    return torch.stack([azimuth.sin(), azimuth.cos(), elevation, radius], dim=-1)  # (B, 4)
