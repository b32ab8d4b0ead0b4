"""A slow rasteriser of 3D Gaussians in plain PyTorch, to check gsplat against: every Gaussian at every pixel."""

import torch
from torch import Tensor

from fourdistill.teacher.splats.gaussians import Gaussians, Splats
from fourdistill.teacher.splats.rasterizer import Rasterize


def rasterize(splats: Splats, viewmats: Tensor, K: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """See `fourdistill.teacher.splats.rasterizer.Rasterize`; the projection is linearised at each mean."""
    seen = splats.opacities > 1 / 255  # as gsplat does
    splats = Splats(*(value[seen] for value in vars(splats).values()))
    found = [_one_camera(splats, view, intrinsics, size) for view, intrinsics in zip(viewmats, K, strict=True)]
    color, alpha, depth = (torch.stack(values) for values in zip(*found, strict=True))
    return color, alpha, depth


def _one_camera(splats: Splats, view: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> tuple[Tensor, ...]:
    means = splats.means @ view[:3, :3].T + view[:3, 3]  # (N, 3) in the camera's axes
    z = means[:, 2].clamp(min=0.05)
    order = z.argsort()
    focal, center = intrinsics.diagonal()[:2], intrinsics[:2, 2]
    places = means[:, :2] / z[:, None] * focal + center  # (N, 2) pixels
    jacobian = torch.zeros(len(z), 2, 3, device=z.device)
    jacobian[:, 0, 0], jacobian[:, 1, 1] = focal[0] / z, focal[1] / z
    jacobian[:, :, 2] = -means[:, :2] * focal / z[:, None] ** 2
    half = _rotations(splats.quats) * splats.scales[:, None]  # R S
    projected = jacobian @ view[:3, :3] @ half  # (N, 2, 3)
    covariance = projected @ projected.transpose(1, 2) + 0.3 * torch.eye(2, device=z.device)
    rows, columns = torch.meshgrid(*(torch.arange(n, device=z.device) + 0.5 for n in size), indexing="ij")
    x, y = columns.reshape(-1, 1) - places[:, 0], rows.reshape(-1, 1) - places[:, 1]  # (P, N)
    inverse = torch.linalg.inv(covariance)
    power = inverse[:, 0, 0] * x * x + 2 * inverse[:, 0, 1] * x * y + inverse[:, 1, 1] * y * y
    alpha = (splats.opacities * torch.exp(-0.5 * power) * (means[:, 2] > 0.05)).clamp(max=0.99)[:, order]  # (P, N)
    passed = torch.cumprod(1 - alpha, dim=1)
    weights = alpha * torch.cat([torch.ones_like(passed[:, :1]), passed[:, :-1]], dim=1)
    total = weights.sum(1)
    color, depth = weights @ splats.colors[order], weights @ z[order] / total.clamp(min=1e-6)
    return color.reshape(*size, 3), total.reshape(size), depth.reshape(size)


def _rotations(quats: Tensor) -> Tensor:
    w, x, y, z = torch.nn.functional.normalize(quats, dim=1).unbind(1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], 1)  # (N, 3, 3)


def errors_of(other: Rasterize, device: torch.device) -> dict[str, float]:
    """Relative errors of another rasteriser's pictures and gradients against this one's: 200 Gaussians, 64 pixels."""
    generator = torch.Generator().manual_seed(0)
    means, shades, turns, pattern = (
        torch.randn(*shape, generator=generator) for shape in ((200, 3), (200, 3), (200, 4), (1, 64, 64, 3))
    )
    gaussians = Gaussians(0.3 * means + torch.tensor([0, 0, 2.5]), shades.sigmoid(), torch.zeros(200), 0.08, 1.0)
    gaussians.quats.data += 0.5 * turns
    gaussians, pattern = gaussians.to(device), pattern.to(device)
    K = torch.tensor([[[70.0, 0, 30], [0, 75, 34], [0, 0, 1]]], device=device)
    found = []
    for each in (other, rasterize):
        color, alpha, depth = each(gaussians.at(0.0), torch.eye(4, device=device)[None], K, (64, 64))
        loss = (color - pattern).square().mean() + (alpha - pattern[..., 0]).square().mean()
        (gradients,) = torch.autograd.grad(loss, [gaussians.means])
        found.append([value.detach() for value in (color, alpha, depth * (alpha > 0.5), gradients)])
    names = ("colours", "alpha", "depth", "gradients")
    return {n: float((mine - own).norm() / own.norm()) for n, mine, own in zip(names, *found, strict=True)}
