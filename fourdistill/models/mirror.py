"""Mirror images: the mirror image of a scene is itself a scene, in which cameras turn the other way.

So a prior can predict a target twice: directly, and as its mirror image from the source's mirror image. Both
predictions have errors of their own, and their mean is closer to the target than either. This only needs a map from the
codes of an image to those of its mirror image. It is linear: Lenc and Vedaldi (arXiv 1411.5908) find that the features
of an image and of its mirror image are nearly linear in each other.
"""

from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F

from fourdistill.models.conditions import Conditions
from fourdistill.models.view_encoding import Tensors

RIDGE = 1e-3  # added to the codes' covariance, as a share of their mean variance


class CodeMirror(nn.Module):
    """Codes of images (B, K) => codes of their mirror images (B, K), by a linear map."""

    weight: torch.Tensor
    offset: torch.Tensor

    def __init__(self, num_components: int):
        super().__init__()
        self.register_buffer("weight", torch.eye(num_components))
        self.register_buffer("offset", torch.zeros(num_components))

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes (B, K) => (B, K)."""
        with torch.autocast(codes.device.type, enabled=False):
            return F.linear(codes, self.weight.to(codes.dtype), self.offset.to(codes.dtype))


def fit_mirror(codes: torch.Tensor, mirrored_codes: torch.Tensor) -> CodeMirror:
    """The map between the codes of N images and those of their mirror images, (N, K) each; it works in both directions.

    By ridge regression, in float64.
    """
    x = torch.cat([codes, mirrored_codes]).double()  # (2N, K)
    y = torch.cat([mirrored_codes, codes]).double()
    mean = x.mean(dim=0)  # that of y, too
    x, y = x - mean, y - mean
    covariance = x.T @ x
    covariance.diagonal().add_(RIDGE * covariance.diagonal().mean())
    weight = torch.linalg.solve(covariance, x.T @ y).T  # (K, K)
    mirror = CodeMirror(len(mean))
    mirror.weight.copy_(weight)
    mirror.offset.copy_(mean - weight @ mean)
    return mirror


def mirrored_conditions(conditions: Conditions) -> Conditions:
    """The conditions with the displacements of every image mirrored; their image embeddings stay."""
    others = tuple(mirrored_conditions(other) for other in conditions.others)
    return replace(conditions, displacement=mirrored(conditions.displacement), others=others)


def mirrored(displacement: Tensors) -> Tensors:
    """Displacements (N,) => those between the mirror images: the azimuth changes sign."""
    pose = mirror_pose(displacement.relative_pose)
    return replace(displacement, azimuth=-displacement.azimuth, relative_pose=pose)


def mirror_pose(relative_pose: torch.Tensor) -> torch.Tensor:
    """Rows of a 3x4 relative pose (N, 12) => those of the mirror images, x negated in both cameras, (N, 12)."""
    signs = relative_pose.new_tensor([-1.0, 1, 1])
    pose = relative_pose.view(-1, 3, 4)
    return (signs[:, None] * pose * relative_pose.new_tensor([-1.0, 1, 1, 1])).reshape(-1, 12)
