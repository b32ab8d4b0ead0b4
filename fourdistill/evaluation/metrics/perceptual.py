"""Perceptual similarity by pretrained networks: LPIPS of every image, KID and FID of two sets of images.

A metric is computed if its weights are in torch.hub's cache or can be downloaded. Otherwise it is reported as
`NotComputed` with the reason; no other network replaces it. The outcome is cached for the process, so that an
unreachable server is tried only once.
"""

import socket
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fourdistill.errors import one_line
from fourdistill.storage.files import sha256

INCEPTION = "Inception-v3 (torch-fidelity's copy of TensorFlow's of 2015-12-05), 2048 features"
BACKBONES = {"lpips": "AlexNet (torchvision, ImageNet-1k), LPIPS 0.1 heads", "kid": INCEPTION, "fid": INCEPTION}
LPIPS_SIDE = 64  # px, side of the patches that LPIPS was calibrated on
DIMENSIONS = 2048  # of the Inception features
SUBSETS = 100  # torchmetrics' default
BATCH_SIZE = 32
TIMEOUT = 10.0  # s without a response from a server; name resolution has its own limit
FAILURES = (ImportError, OSError, RuntimeError)  # RuntimeError: a wrong hash, or torchvision built for another torch


@dataclass(frozen=True)
class NotComputed:
    """A metric that could not be computed, and the reason in one line."""

    metric: str
    reason: str


@torch.no_grad()
def lpips(images: Tensor, truth: Tensor) -> np.ndarray | NotComputed:
    """LPIPS distance of each image from its true image, with AlexNet features.

    Two (N, 3, H, W) in [0, 1] => (N,) float64, at least 0; lower is closer. If the shorter side is below `LPIPS_SIDE`,
    both images are enlarged to it with their aspect ratio kept (bilinear, `align_corners=False`). Do not compare values
    across image sizes. Raises `ValueError` if the shapes differ. Zhang et al. 2018, "The unreasonable effectiveness of
    deep features as a perceptual metric".
    """
    if images.shape != truth.shape:
        raise ValueError(f"images and truth: expected one shape, found {tuple(images.shape)} and {tuple(truth.shape)}")
    network = _alexnet()
    if isinstance(network, str):
        return NotComputed("lpips", network)
    network = network.to(images.device)
    pairs = zip(images.split(BATCH_SIZE), truth.split(BATCH_SIZE), strict=True)
    values = [network(_enlarge(a), _enlarge(b), normalize=True).flatten() for a, b in pairs]  # normalize: from [0, 1]
    return torch.cat(values).cpu().numpy().astype(np.float64)


def kid(images: Tensor, truth: Tensor, *, subset_size: int, seed: int) -> tuple[float, float] | NotComputed:
    """Kernel distance (KID) of two sets of images: mean and standard deviation over `SUBSETS` random subsets.

    (N, 3, H, W) and (M, 3, H, W) in [0, 1] => squared maximum mean discrepancy of the Inception features with the
    kernel (x·y / 2048 + 1)³; lower is closer. It is unbiased for any number of images and can therefore be negative.
    Every subset takes `subset_size` images of each set; smaller sets are not scored. Subsets overlap, so their
    deviation is not a standard error. It is 0 if a subset is the whole set. Raises `ValueError` for a `subset_size`
    below 2. Bińkowski et al. 2018, "Demystifying MMD GANs".
    """
    check_subsets(subset_size)
    if (count := min(len(images), len(truth))) < subset_size:
        return NotComputed("kid", f"{count} images, subsets of {subset_size} wanted")
    network = _inception()
    if isinstance(network, str):
        return NotComputed("kid", network)
    return kernel_distance(_features(images, network), _features(truth, network), subset_size=subset_size, seed=seed)


def kernel_distance(x: Tensor, y: Tensor, *, subset_size: int, seed: int) -> tuple[float, float] | NotComputed:
    """`kid` for any features (N, D) and (M, D), with the kernel (x·y / D + 1)³."""
    check_subsets(subset_size)
    if (count := min(len(x), len(y))) < subset_size:
        return NotComputed("kid", f"{count} images, subsets of {subset_size} wanted")
    from torchmetrics.image.kid import poly_mmd  # imports torch-fidelity if installed, which may fail

    generator = torch.Generator().manual_seed(seed)  # torchmetrics' own metric uses the global generator
    values = []
    for _ in range(SUBSETS):
        of_x, of_y = (torch.randperm(len(features), generator=generator)[:subset_size] for features in (x, y))
        values.append(poly_mmd(x[of_x].double(), y[of_y].double()))
    found = torch.stack(values)
    return float(found.mean()), float(found.std(correction=0))


def check_subsets(subset_size: int) -> None:
    """Raise `ValueError` if a subset is too small to compare its images with each other."""
    if subset_size < 2:
        raise ValueError(f"subset_size: expected at least 2, found {subset_size}")


def fid(images: Tensor, truth: Tensor) -> float | NotComputed:
    """Fréchet distance (FID) of two sets of images, assuming normally distributed Inception features.

    (N, 3, H, W) and (M, 3, H, W) in [0, 1] => at least 0 up to rounding; lower is closer, and small sets bias it
    upwards. Not computed unless each set has more images than there are dimensions: fewer give a covariance without
    full rank (the mean uses up one). Images are resized to 299 px as in torchmetrics, with antialiasing, so values
    differ slightly from the original code. Heusel et al. 2017, "GANs trained by a two time-scale update rule ...".
    """
    if (count := min(len(images), len(truth))) <= DIMENSIONS:
        return NotComputed("fid", f"{count} images; needs more than the features have dimensions, {DIMENSIONS}")
    network = _inception()
    if isinstance(network, str):
        return NotComputed("fid", network)
    from torchmetrics.image.fid import FrechetInceptionDistance

    x, y = _features(images, network), _features(truth, network)
    given = nn.Identity()
    given.num_features = torch.tensor(x.shape[1])
    metric = FrechetInceptionDistance(feature=given)  # receives features, not images
    metric.update(x, real=False)
    metric.update(y, real=True)
    return float(metric.compute())


def _enlarge(images: Tensor) -> Tensor:
    """(B, 3, H, W) => a shorter side of at least `LPIPS_SIDE`; bilinear, which unlike bicubic stays in [0, 1]."""
    height, width = images.shape[2:]
    if (shorter := min(height, width)) >= LPIPS_SIDE:
        return images
    size = (round(height * LPIPS_SIDE / shorter), round(width * LPIPS_SIDE / shorter))
    return F.interpolate(images, size, mode="bilinear", align_corners=False)


@torch.no_grad()
def _features(images: Tensor, network: nn.Module) -> Tensor:
    """(N, 3, H, W) in [0, 1] => (N, D) float64 on the CPU, with a network that takes bytes."""
    network = network.to(images.device)
    # Round here: torchmetrics' own conversion truncates, which darkens values that are not whole bytes.
    batches = ((batch * 255).round().to(torch.uint8) for batch in images.split(BATCH_SIZE))
    return torch.cat([network(batch).double().cpu() for batch in batches])


@cache
def _alexnet() -> nn.Module | str:
    """The network of LPIPS, or the reason why it is unavailable."""
    try:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
        from torchvision.models import AlexNet_Weights  # pyright: ignore[reportMissingImports]  # not a dependency

        _fetch(AlexNet_Weights.DEFAULT.url)
        return LearnedPerceptualImagePatchSimilarity(net_type="alex").net  # loads the fetched file
    except FAILURES as error:
        return f"no AlexNet: {_one_line(error)}"


@cache
def _inception() -> nn.Module | str:
    """The network of KID and FID, or the reason why it is unavailable."""
    try:
        from torch_fidelity import feature_extractor_inceptionv3 as extractor  # pyright: ignore[reportMissingImports]
        from torchmetrics.image.fid import FrechetInceptionDistance

        _fetch(extractor.URL_INCEPTION_V3)
        return FrechetInceptionDistance(feature=DIMENSIONS).inception
    except FAILURES as error:
        return f"no Inception-v3: {_one_line(error)}"


def _one_line(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"the package {error.name} is not installed"
    return one_line(error)


def _fetch(url: str) -> None:
    """Ensure that the file of `url`, whose name contains the start of its SHA-256, is in torch.hub's cache.

    Raises `RuntimeError` if the hash differs. Files already in the cache are checked too, because torch.hub trusts and
    unpickles them. Raises `OSError` if the download fails.
    """
    path = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(url).path).name)
    named = path.stem.rpartition("-")[2]
    if path.exists():
        if not sha256(path).startswith(named):
            raise RuntimeError(f"{path}: expected a SHA-256 that starts with {named}, found another; remove this file")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # temporarily, for the whole process: torch.hub has no argument for it
    try:
        torch.hub.download_url_to_file(url, str(path), named)
    except (OSError, HTTPException) as error:
        raise OSError(f"{path.name} is not in torch.hub's cache, and {url} gave: {error}") from error
    finally:
        socket.setdefaulttimeout(before)
