"""Are the images of a sweep consistent? Warping error, similarity of frame features, and a distance of sequences.

- Warping error (Lai et al. 2018, "Learning blind video temporal consistency", eq. 10): the next image is warped back
  along the optical flow of the *true* frames and compared with the current one. The error is the mean squared
  difference of [0, 1] values where the flow is not occluded. It is small if the sequence moves like the truth and does
  not flicker.
- Similarity: mean cosine of the CLIP features of consecutive images. A static sequence has 1, so compare the value
  with that of the truth, which `ceiling.vae` approximates.
- Sequence distance: squared maximum mean discrepancy with KID's cubic kernel (Binkowski et al. 2018) between generated
  and true sequences. Each is described by the CLIP features of its images *in order*; the kernel's inner product is the
  mean cosine of images at the same position. It is unbiased for any number of sequences and can be negative. A Frechet
  distance would need more sequences than dimensions.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from PIL import Image
from torchmetrics.image.kid import poly_kernel

OCCLUSION = (0.01, 0.5)  # Sundaram et al. 2010, eq. 5: relative and absolute tolerance of forward-backward agreement


def warp_error(generated: Sequence[Image.Image], truth: Sequence[Image.Image]) -> float:
    """Warping error of one sequence of N >= 2 RGB images of one size; NaN if every pixel is occluded."""
    errors = []
    for i in range(len(generated) - 1):
        forward, backward = _flow(truth[i], truth[i + 1]), _flow(truth[i + 1], truth[i])  # (H, W, 2) pixels
        visible = _visible(forward, backward)  # (H, W)
        here, there = (np.asarray(image, np.float32) / 255 for image in generated[i : i + 2])  # (H, W, 3)
        difference = np.square(_warp(there, forward) - here).mean(axis=2)  # (H, W)
        errors.append(difference[visible].mean() if visible.any() else np.nan)
    return float(np.nanmean(errors)) if np.isfinite(errors).any() else float("nan")


def _flow(a: Image.Image, b: Image.Image) -> np.ndarray:
    """Dense flow from `a` to `b` (H, W, 2) in pixels (x, y), by dense inverse search (Kroeger et al. 2016)."""
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = (np.asarray(image.convert("L")) for image in (a, b))
    return method.calc(*grey, None)  # type: ignore[call-overload]


def _warp(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Sample `image` (H, W, C) at each pixel displaced by the flow (H, W, 2); zeros outside."""
    rows, columns = np.indices(flow.shape[:2], dtype=np.float32)
    return cv2.remap(image, columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR)


def _visible(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """Pixels (H, W) whose flow stays in the image and agrees with the backward flow."""
    height, width = forward.shape[:2]
    rows, columns = np.indices((height, width), dtype=np.float32)
    x, y = columns + forward[..., 0], rows + forward[..., 1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    back = _warp(backward, forward)
    relative, absolute = OCCLUSION
    lengths = np.square(forward).sum(2) + np.square(back).sum(2)
    return inside & (np.square(forward + back).sum(2) < relative * lengths + absolute)


def similarity(features: np.ndarray) -> float:
    """CLIP features of one sequence (N, P), each of length 1 => mean cosine of neighbours, in [-1, 1]."""
    return float((features[:-1] * features[1:]).sum(1).mean())


class SequenceDistance:
    """Squared MMD of two sets of M sequences each, and its interval when sequences are resampled."""

    def __init__(self, generated: np.ndarray, truth: np.ndarray):
        """Features of M sequences of N images, in order, (M, N, P); at least three sequences."""
        x, y = (torch.from_numpy(features.reshape(len(features), -1)).double() for features in (generated, truth))
        gamma = 1 / generated.shape[1]  # features have length 1, so the product of two sequences is their mean cosine
        kernels = (poly_kernel(a, b, 3, gamma, 1.0).numpy() for a, b in ((x, x), (y, y), (x, y)))
        self._within_x, self._within_y, self._between = kernels
        self._count = len(generated)

    def value(self, weights: np.ndarray | None = None) -> float:
        """The distance; `weights` (M,) give how often each sequence was drawn, the same in both sets.

        A sequence is never compared with itself, however often it was drawn, nor with its own true sequence: both show
        the same scene and are not independent draws.
        """
        w = np.ones(self._count) if weights is None else weights
        apart = np.outer(w, w) * (1 - np.eye(self._count))
        return float(((self._within_x + self._within_y - 2 * self._between) * apart).sum() / apart.sum())

    def interval(self, num_bootstrap: int, rng: np.random.Generator) -> tuple[float, float]:
        """The 95 % percentile interval over resampled sequences."""
        draws = rng.multinomial(self._count, np.full(self._count, 1 / self._count), size=num_bootstrap)
        draws = draws[(draws > 0).sum(1) > 1]  # a single sequence cannot be compared with another
        if not len(draws):
            return self.value(), self.value()
        low, high = np.quantile([self.value(draw) for draw in draws], [0.025, 0.975])
        return float(low), float(high)
