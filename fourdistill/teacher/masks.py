"""Foreground masks of frames: the pixels that differ from the backdrop."""

import cv2
import numpy as np
from numpy.typing import NDArray

_NEIGHBOURHOOD = np.ones((3, 3), np.uint8)


def foreground_mask(
    image: NDArray[np.float32], background: NDArray[np.float32], threshold: float = 0.07
) -> NDArray[np.bool_]:
    """Frame and its background (H, W, 3) in [0, 1] => (H, W), true where they differ by more than the threshold.

    A pixel may match any background colour within one pixel, because shadow edges are never exactly in place. Specks
    below a twentieth of the largest piece are removed, and pinholes are filled.
    """
    darkest, brightest = cv2.erode(background, _NEIGHBOURHOOD), cv2.dilate(background, _NEIGHBOURHOOD)
    mask = np.maximum(darkest - image, image - brightest).max(-1) > threshold
    pixels = image.shape[0] * image.shape[1]
    sizes, labels = _pieces(mask, connectivity=8)
    if len(sizes) > 1:
        smallest = max(pixels / 1000, 0.05 * sizes[1:].max())
        mask = np.isin(labels, 1 + np.flatnonzero(sizes[1:] >= smallest))
    sizes, labels = _pieces(~mask, connectivity=4)
    return mask | np.isin(labels, 1 + np.flatnonzero(sizes[1:] < pixels / 2700))


def bounding_box(mask: NDArray[np.bool_], margin: int = 2) -> NDArray[np.bool_]:
    """The box around the true pixels of (H, W), with a margin in pixels; empty if none is true."""
    box = np.zeros_like(mask)
    rows, columns = np.nonzero(mask)
    if len(rows):
        top, left = max(rows.min() - margin, 0), max(columns.min() - margin, 0)
        box[top : rows.max() + margin + 1, left : columns.max() + margin + 1] = True
    return box


def _pieces(mask: NDArray[np.bool_], connectivity: int) -> tuple[NDArray, NDArray]:
    """Sizes in pixels (pieces + 1,), of the false pixels first, and labels (H, W)."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=connectivity)
    return statistics[:, cv2.CC_STAT_AREA], labels
