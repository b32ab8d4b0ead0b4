"""Image similarity with torchmetrics: PSNR and SSIM of each image in a batch."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

MAX_PSNR = 100.0  # dB, for identical images; keeps means finite


def to_tensor(images: Sequence[Image.Image]) -> torch.Tensor:
    """N RGB images of one size => (N, 3, H, W) float32 in [0, 1]."""
    pixels = np.stack([np.asarray(image.convert("RGB")) for image in images])  # (N, H, W, 3)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def psnr(images: torch.Tensor, truth: torch.Tensor) -> np.ndarray:
    """Two (N, 3, H, W) in [0, 1] => PSNR in dB of each (N,), at most `MAX_PSNR`; higher is closer."""
    # torchmetrics reduces over the whole batch by default, so images are passed one at a time.
    values = [peak_signal_noise_ratio(a, b, data_range=1.0) for a, b in zip(images, truth, strict=True)]
    return torch.stack(values).clamp(max=MAX_PSNR).numpy().astype(np.float64)


def ssim(images: torch.Tensor, truth: torch.Tensor) -> np.ndarray:
    """Two (N, 3, H, W) in [0, 1] => SSIM of each (N,), at most 1; Gaussian window of 11 pixels, higher is closer."""
    values = structural_similarity_index_measure(images, truth, data_range=1.0, reduction="none")
    return np.atleast_1d(torch.as_tensor(values).numpy()).astype(np.float64)
