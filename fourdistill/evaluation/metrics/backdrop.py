"""What a still camera would see if nobody stood there: a plain backdrop, estimated from the camera's true frames.

The median over time will not do: who turns, punches or walks on a treadmill is in the middle of most frames. A plain
backdrop is known from where nobody stands: its hue is that of the pictures' rim, and its lightness at each pixel that
of the frames in which the pixel has this hue and is not in shadow. Pixels that never show it are filled from around.
Walls and floors may differ a little in lightness, not in hue.

Where this does not apply there is no backdrop: a camera that moves, by its poses, and a rim that is not of one hue
throughout, as in a furnished room. Of a camera without poses the rim alone decides.
"""

from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.color import rgb2lab

from fourdistill.evaluation.protocol.command import FrameKey
from fourdistill.evaluation.protocol.frames import FrameReader
from fourdistill.tables import FRAMES, read_table

CHROMA = 8.0  # CIELAB (a, b): further from the backdrop's is another hue; video blurs hues by less than this
LIGHTER = 5.0  # CIELAB L above the backdrop's: nothing casts light
SHADOW = 0.47  # of the backdrop's luminance: as dark as a shadow gets under an open sky, where 0.5 is left of it
LIT = 0.7  # of the rim's luminance: what is darker is in shadow, or a floor that is too dark for this
RIM = 1 / 32  # of the picture's side
MIN_RIM = 0.9  # share of the rim, over all frames, that is of its median hue
MAX_FRAMES = 16  # of a camera, evenly spaced
MIN_FRAMES = 0.1  # share of them that a pixel must be seen in; fewer may be the seams of moving figures
BRIGHT = 0.8  # quantile of a pixel's lightness over frames
SMOOTH = 1 / 20  # of the picture's side: blur of what is filled


class BackdropReader:
    """Backdrops by the frames that stand before them, each estimated once."""

    def __init__(self, frames_table: Path, read: FrameReader):
        self._read = read
        self._cameras: dict[tuple[str, str], list[dict]] = {}
        self._known: dict[tuple[str, str], np.ndarray | None] = {}
        for row in read_table(frames_table, FRAMES, ["scene", "camera", "frame_index", "c2w"]).to_pylist():
            self._cameras.setdefault((row["scene"], row["camera"]), []).append(row)

    def __call__(self, key: FrameKey) -> np.ndarray | None:
        """The backdrop (H, W, 3), CIELAB, of a frame's camera; None where it is not known, see above."""
        camera = key.scene, key.camera
        if camera not in self._known:
            self._known[camera] = self._estimate(self._cameras[camera])
        return self._known[camera]

    def _estimate(self, rows: list[dict]) -> np.ndarray | None:
        poses = [row["c2w"] for row in rows if row["c2w"] is not None]
        if any(not np.allclose(pose, poses[0]) for pose in poses):
            return None
        chosen = np.unique(np.linspace(0, len(rows) - 1, MAX_FRAMES).round().astype(int))
        keys = [FrameKey(rows[i]["scene"], rows[i]["camera"], rows[i]["frame_index"]) for i in chosen]
        return estimate_backdrop(np.stack([to_lab(np.asarray(self._read(key))) for key in keys]))


def to_lab(pixels: np.ndarray) -> np.ndarray:
    """sRGB (..., 3) uint8 => CIELAB (..., 3) float32 under D65: L in [0, 100]."""
    return rgb2lab(pixels.astype(np.float32) / 255)


def estimate_backdrop(frames: np.ndarray) -> np.ndarray | None:
    """Frames (N, H, W, 3) of a still camera, CIELAB => the backdrop (H, W, 3), or None where it is not plain."""
    width = max(1, round(RIM * frames.shape[1]))
    inner = np.zeros(frames.shape[1:3], bool)
    inner[width:-width, width:-width] = True
    colour = np.median(frames[:, ~inner].reshape(-1, 3), axis=0)
    if is_backdrop(frames, colour)[:, ~inner].mean() < MIN_RIM:
        return None
    shown = is_backdrop(frames, colour, darkest=LIT)  # (N, H, W)
    seen = shown.mean(0) >= max(MIN_FRAMES, 1 / len(frames))
    of_seen = np.where(shown[:, seen, None], frames[:, seen], np.nan)  # (N, P, 3)
    backdrop = np.nanmedian(of_seen, axis=0)  # (P, 3)
    # np.nanquantile takes 200 times as long; what is not seen is sorted to the end.
    rank = np.floor(BRIGHT * (shown[:, seen].sum(0) - 1)).astype(int)  # (P,)
    backdrop[:, 0] = np.take_along_axis(np.sort(of_seen[..., 0], axis=0), rank[None], axis=0)[0]
    return _fill(backdrop, seen)


def is_backdrop(pixels: np.ndarray, backdrop: np.ndarray, darkest: float = SHADOW) -> np.ndarray:
    """Which pixels (..., 3) show the backdrop (..., 3), with `darkest` of its luminance or more; both CIELAB."""
    hue = np.hypot(pixels[..., 1] - backdrop[..., 1], pixels[..., 2] - backdrop[..., 2]) <= CHROMA
    # L + 16 is proportional to the cube root of luminance (CIE 15:2004, equation 8.3).
    lowest = (backdrop[..., 0] + 16) * np.cbrt(darkest) - 16
    return hue & (pixels[..., 0] >= lowest) & (pixels[..., 0] <= backdrop[..., 0] + LIGHTER)


def _fill(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The colours (P, 3) of the pixels `seen` (H, W) => a picture (H, W, 3), the others' from the nearest, blurred."""
    backdrop = np.zeros((*seen.shape, 3), np.float32)
    backdrop[seen] = values
    nearest = ndimage.distance_transform_edt(~seen, return_distances=False, return_indices=True)
    filled = backdrop[tuple(np.asarray(nearest))]
    sigma = SMOOTH * len(backdrop)
    return np.where(seen[..., None], filled, ndimage.gaussian_filter(filled, (sigma, sigma, 0)))
