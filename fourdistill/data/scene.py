"""The one contract between readers and everything else: what a scene is, whatever format it came in."""

from dataclasses import dataclass
from pathlib import Path

from fourdistill.geometry.poses import Array


@dataclass(frozen=True)
class Camera:
    """A calibrated camera."""

    K: Array
    """(3, 3) intrinsics in pixels of an image of `size`, pixel centres at +0.5."""
    size: tuple[int, int]
    """(width, height) of the images that K speaks of; the video may be a resized copy."""
    c2w: Array
    """(4, 4) camera-to-world, OpenCV axes, translation in the source's units."""
    distortion: tuple[float, float, float, float] | None = None
    """Brown-Conrady k1, k2, p1, p2 on normalised image points; None for an ideal lens."""


@dataclass(frozen=True)
class Video:
    """One camera's film of a scene."""

    camera_id: str
    """Unique within the scene; a folder is named after it."""
    path: Path
    """The video file; nothing but its existence has been looked at."""
    camera: Camera | None = None
    """None where nothing is known about the camera."""


@dataclass(frozen=True)
class Scene:
    """Something that moves, filmed by one camera or by several synchronised ones."""

    name: str
    """Unique over all sources of a run; a folder is named after it."""
    videos: tuple[Video, ...]
    """In order of their camera ids; at least one."""
    caption: str | None = None
    """What is seen, in a sentence."""
