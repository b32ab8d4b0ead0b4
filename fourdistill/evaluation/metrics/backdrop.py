"""The backdrop: what a static camera sees without the figure, estimated from the camera's true frames.

A median over time does not work: a figure that turns, punches or walks on a treadmill covers the centre of most
frames. Instead, the backdrop is estimated where it is visible. Its hue is that of the image border. Its lightness at
each pixel comes from the frames in which the pixel has this hue and is not in shadow. Pixels that never show the
backdrop are filled from their surroundings. Walls and floors may differ a little in lightness, but not in hue.

There is no backdrop if the poses show that the camera moves, or if the border has more than one hue, as in a
furnished room. If a camera has no poses, only the border is checked.
"""

from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.color import rgb2lab

from fourdistill.evaluation.protocol.command import FrameKey
from fourdistill.evaluation.protocol.frames import FrameReader
from fourdistill.tables import FRAMES, read_table

CHROMA = 8.0  # largest CIELAB (a, b) distance from the backdrop's hue; video blurs hues by less than this
LIGHTER = 5.0  # largest CIELAB L above the backdrop's: nothing casts light on the backdrop
SHADOW = 0.47  # darkest shadow, as a share of the backdrop's luminance; under an open sky 0.5 remains
LIT = 0.7  # share of the rim's luminance; darker pixels are in shadow, or the floor is too dark for this method
RIM = 1 / 32  # width, as a share of the image side
MIN_RIM = 0.9  # smallest share of the rim, over all frames, that has its median hue
MAX_FRAMES = 16  # per camera, evenly spaced
MIN_FRAMES = 0.1  # smallest share of frames in which a pixel must be seen; fewer may be seams of moving figures
BRIGHT = 0.8  # quantile of a pixel's lightness over frames
SMOOTH = 1 / 20  # blur of filled pixels, as a share of the image side


class BackdropReader:
    """The backdrops of frames, estimated once per camera."""

    def __init__(self, frames_table: Path, read: FrameReader):
        self._read = read
        self._cameras: dict[tuple[str, str], list[dict]] = {}
        self._known: dict[tuple[str, str], np.ndarray | None] = {}
        for row in read_table(frames_table, FRAMES, ["scene", "camera", "frame_index", "c2w"]).to_pylist():
            self._cameras.setdefault((row["scene"], row["camera"]), []).append(row)

    def __call__(self, key: FrameKey) -> np.ndarray | None:
        """The backdrop (H, W, 3) of a frame's camera in CIELAB; None if there is none (see the module docstring)."""
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
    """Frames (N, H, W, 3) of a static camera in CIELAB => the backdrop (H, W, 3), or None if it is not plain."""
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
    # np.nanquantile takes 200 times as long. Sorting puts the NaN of unseen frames last.
    rank = np.floor(BRIGHT * (shown[:, seen].sum(0) - 1)).astype(int)  # (P,)
    backdrop[:, 0] = np.take_along_axis(np.sort(of_seen[..., 0], axis=0), rank[None], axis=0)[0]
    return _fill(backdrop, seen)


def is_backdrop(pixels: np.ndarray, backdrop: np.ndarray, darkest: float = SHADOW) -> np.ndarray:
    """Which pixels (..., 3) show the backdrop (..., 3), with at least `darkest` of its luminance; both in CIELAB."""
    hue = np.hypot(pixels[..., 1] - backdrop[..., 1], pixels[..., 2] - backdrop[..., 2]) <= CHROMA
    # L + 16 is proportional to the cube root of luminance (CIE 15:2004, equation 8.3).
    lowest = (backdrop[..., 0] + 16) * np.cbrt(darkest) - 16
    return hue & (pixels[..., 0] >= lowest) & (pixels[..., 0] <= backdrop[..., 0] + LIGHTER)


def _fill(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Colours (P, 3) of the `seen` pixels (H, W) => an image (H, W, 3); the rest takes the nearest colour, blurred."""
    backdrop = np.zeros((*seen.shape, 3), np.float32)
    backdrop[seen] = values
    nearest = ndimage.distance_transform_edt(~seen, return_distances=False, return_indices=True)
    filled = backdrop[tuple(np.asarray(nearest))]
    sigma = SMOOTH * len(backdrop)
    return np.where(seen[..., None], filled, ndimage.gaussian_filter(filled, (sigma, sigma, 0)))
