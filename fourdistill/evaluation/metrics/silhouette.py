"""Does the image show the whole figure in its colours? Scores of the figure in front of the backdrop.

- `silhouette.iou`: intersection over union of the generated and the true figure's pixels, in [0, 1]; higher is closer.
- `silhouette.loose`: share of the generated figure's pixels in pieces that do not touch its largest piece, in [0, 1]:
  the floating parts. It is 0 if there is no figure, which the IoU shows.
- `colour.delta_e`: CIEDE2000 (Sharma et al. 2005) between generated and true image, mean over the true figure's
  pixels; 1 is just noticeable, lower is closer. A missing limb counts with the backdrop's colour.

The figure is everything that differs from the backdrop, both lit and in shadow (`backdrop`). Clothes of the backdrop's
colour are not detected, and the true figure then splits into pieces. A pair is therefore scored only if the backdrop is
known and the true figure is in one piece; otherwise all systems have NaN. In the shipped scenes 87 % of the true frames
are in one piece, and their mean IoU with the figure drawn by the ray caster is 0.92; the clothes of the others are
white.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from cv2 import connectedComponents
from PIL import Image
from scipy import ndimage
from skimage.color import deltaE_ciede2000

from fourdistill.evaluation.metrics.backdrop import is_backdrop, to_lab

METRICS = ("silhouette.iou", "silhouette.loose", "colour.delta_e")
NUM_SCORED = "silhouette.num_pairs"
WHERE = "whose camera stands still before a plain backdrop and whose true figure stands out whole"
MIN_FIGURE = 0.002  # share of the image; smaller figures are noise
MAX_LOOSE = 0.03  # share of the true figure; with more, it is not in one piece
SPECK = np.ones((2, 2), bool)  # thinner structures are video noise, not part of a figure
GAP = np.ones((3, 3), bool)  # pieces less than three pixels apart touch each other


def score_silhouettes(
    pictures: Mapping[str, Sequence[Image.Image]],
    truth: Sequence[Image.Image],
    backdrops: Sequence[np.ndarray | None],
) -> dict[str, dict[str, np.ndarray]]:
    """Score every system's images against N true ones of the same size: system => each of `METRICS` (N,).

    `backdrops` are those of the true images' cameras (H, W, 3) in CIELAB, None where unknown.
    """
    scores = {system: {metric: np.full(len(truth), np.nan) for metric in METRICS} for system in pictures}
    for i, (true_picture, backdrop) in enumerate(zip(truth, backdrops, strict=True)):
        if backdrop is None:
            continue
        lab = to_lab(np.asarray(true_picture))
        figure = figure_mask(lab, backdrop)
        if figure.mean() < MIN_FIGURE or loose_share(figure) > MAX_LOOSE:
            continue
        for system, images in pictures.items():
            drawn = to_lab(np.asarray(images[i]))
            found = figure_mask(drawn, backdrop)
            values = (
                (found & figure).sum() / (found | figure).sum(),
                loose_share(found),
                deltaE_ciede2000(lab[figure], drawn[figure]).mean(),
            )
            for metric, value in zip(METRICS, values, strict=True):
                scores[system][metric][i] = value
    return scores


def num_scored(scores: Mapping[str, np.ndarray]) -> int:
    """The number of pairs behind one system's scores."""
    return int(np.isfinite(scores[METRICS[0]]).sum())


def figure_mask(pixels: np.ndarray, backdrop: np.ndarray) -> np.ndarray:
    """An image and its backdrop (H, W, 3) in CIELAB => the figure's pixels (H, W) bool, without specks."""
    return ndimage.binary_opening(~is_backdrop(pixels, backdrop), SPECK)


def loose_share(mask: np.ndarray) -> float:
    """Share of a mask's pixels (H, W) that are not in its largest piece, in [0, 1); 0 for an empty mask."""
    _, pieces = connectedComponents(ndimage.binary_dilation(mask, GAP).astype(np.uint8))
    sizes = np.bincount(pieces[mask])
    return float(1 - sizes.max() / sizes.sum()) if mask.any() else 0.0
