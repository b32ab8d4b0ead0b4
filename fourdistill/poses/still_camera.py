"""Whether a camera stood still, by what its pictures' corners do: a tripod's background stays where it is."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

WIDTH = 320  # pixels, to which pictures are brought
MAX_SHIFT = 1.0  # of those pixels: compression and wind move corners a little
STILL_SHARE = 0.25  # of the corners; the rest may belong to what moves. A camera that moves leaves fewer where they are
MIN_CORNERS = 20
NUM_COMPARED = 8  # pictures, evenly spaced, against the first


def is_still(images: Sequence[Image.Image]) -> bool:
    """Whether the camera of these pictures, in order of time, stood still; False where there is too little texture.

    Corners of the first picture are followed into others by Lucas-Kanade flow (Bouguet 2001) and back again.
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
    """Share of corners (n, 1, 2) that are found again, both ways, within `MAX_SHIFT` of where they were."""
    there, found, _ = cv2.calcOpticalFlowPyrLK(first, other, corners, np.empty(0, np.float32))
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(other, first, there, np.empty(0, np.float32))
    sure = (found[:, 0] == 1) & (found_back[:, 0] == 1) & (np.linalg.norm(back - corners, axis=-1)[:, 0] < MAX_SHIFT)
    return float((sure & (np.linalg.norm(there - corners, axis=-1)[:, 0] < MAX_SHIFT)).mean())
