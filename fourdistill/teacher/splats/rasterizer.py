"""The rasteriser of 3D Gaussians: gsplat, whose kernels need a CUDA device."""

import importlib
from collections.abc import Callable

import torch
from torch import Tensor

from fourdistill.errors import InputError
from fourdistill.teacher.splats.gaussians import Splats

Rasterize = Callable[[Splats, Tensor, Tensor, tuple[int, int]], tuple[Tensor, Tensor, Tensor]]
"""Splats, world-to-camera matrices (C, 4, 4), K (C, 3, 3) in pixels (centres at +0.5), (height, width) => colours
(C, H, W, 3) times alpha, alpha (C, H, W), expected depth along +z (C, H, W), arbitrary where alpha is 0."""


def gsplat_rasterizer() -> Rasterize:
    """gsplat's rasteriser; raises `InputError` where there is no CUDA device, or gsplat is not installed."""
    name = "reconstruct.representation"
    if not torch.cuda.is_available():
        raise InputError(f"{name}: expected kplanes on this machine: gsplat needs a CUDA device, found none")
    try:
        rasterization = importlib.import_module("gsplat").rasterization
    except ImportError as error:
        raise InputError(f"{name}: expected the extra gsplat: pip install 'fourdistill[gsplat]'") from error

    def rasterize(splats: Splats, viewmats: Tensor, K: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        height, width = size
        images, alphas, _ = rasterization(
            splats.means, splats.quats, splats.scales, splats.opacities, splats.colors, viewmats, K, width, height,
            render_mode="RGB+ED", packed=False,
        )  # fmt: skip
        return images[..., :3], alphas[..., 0], images[..., 3]

    return rasterize
