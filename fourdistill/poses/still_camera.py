"""Detect static cameras by tracking image corners: on a tripod, the background stays in place."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

WIDTH = 320  # pixels, to which images are resized
MAX_SHIFT = 1.0  # in these pixels; compression and wind move corners a little
STILL_SHARE = 0.25  # of the corners; the rest may be on moving objects. With a moving camera, fewer stay in place
MIN_CORNERS = 20
NUM_COMPARED = 8  # evenly spaced images, compared with the first


def is_still(images: Sequence[Image.Image]) -> bool:
    """Whether the camera of these images, in order of time, is static; False if there is too little texture.

    Corners of the first image are tracked into others and back by Lucas-Kanade flow (Bouguet 2001).
    """
    chosen = np.unique(np.linspace(0, len(images) - 1, NUM_COMPARED + 1).round().astype(int))
    first, *others = (_gray(images[index]) for index in chosen)
    corners = cv2.goodFeaturesToTrack(first, maxCorners=400, qualityLevel=0.01, minDistance=5)
    if corners is None or len(corners) < MIN_CORNERS:
        return False
    return all(_share_still(first, other, corners) >= STILL_SHARE for other in others)


def _gray(image: Image.Image) -> np.ndarray:
    height = max(2, round(image.height * WIDTH / image.width))
    return np.asarray(image.convert("L").resize((WIDTH, height), Image.Resampling.BILINEAR))


def _share_still(first: np.ndarray, other: np.ndarray, corners: np.ndarray) -> float:
    """Share of corners (n, 1, 2) that are tracked both ways and stay within `MAX_SHIFT` of their position."""
    there, found, _ = cv2.calcOpticalFlowPyrLK(first, other, corners, np.empty(0, np.float32))
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(other, first, there, np.empty(0, np.float32))
    sure = (found[:, 0] == 1) & (found_back[:, 0] == 1) & (np.linalg.norm(back - corners, axis=-1)[:, 0] < MAX_SHIFT)
    return float((sure & (np.linalg.norm(there - corners, axis=-1)[:, 0] < MAX_SHIFT)).mean())
