"""The data model of a scene, the same for all source formats: the contract between readers and other modules."""

from dataclasses import dataclass
from pathlib import Path

from fourdistill.geometry.poses import Array


@dataclass(frozen=True)
class Camera:
    """A calibrated camera."""

    K: Array
    """(3, 3) intrinsics in pixels of an image of `size`, pixel centres at +0.5."""
    size: tuple[int, int]
    """(width, height) of the images that K applies to; the film may be a resized copy."""
    c2w: Array
    """(4, 4) camera-to-world, OpenCV axes, translation in the source's units."""
    distortion: tuple[float, ...] | None = None
    """Brown-Conrady k1, k2, p1, p2 and possibly k3, on normalised image points; None for an ideal lens."""


@dataclass(frozen=True)
class Video:
    """One camera's film of a scene in a video file; only the file's existence has been checked."""

    camera_id: str
    """Unique within the scene; a folder is named after it."""
    path: Path
    camera: Camera | None = None
    """For a static camera; None if nothing is known about it."""
    offset_s: float = 0.0
    """Added to the container's times to synchronise the scene's cameras."""
    track: tuple[tuple[float, Camera], ...] = ()
    """For a moving camera: its pose at some presentation times in seconds. Frames at other times have none."""
    background: str = "white"
    """Colour shown by transparent pixels, any that Pillow knows."""


@dataclass(frozen=True)
class Picture:
    """One frame in an image file."""

    path: Path
    index: int
    """The instant, common to synchronised cameras."""
    timestamp_s: float
    camera: Camera | None
    split: str | None = None
    """train, val or test, if the format specifies it."""


@dataclass(frozen=True)
class Pictures:
    """One camera's film of a scene in image files; only their existence has been checked."""

    camera_id: str
    """Unique within the scene; a folder is named after it."""
    path: Path
    """The file that describes them, or the folder that contains them."""
    pictures: tuple[Picture, ...]
    """In order of `index`, which is unique among them; at least one."""
    background: str = "white"
    """Colour shown by transparent pixels, any that Pillow knows."""


Film = Video | Pictures


@dataclass(frozen=True)
class BadPiece:
    """A part of a scene that its description lists but that cannot be used; it is skipped and counted."""

    path: Path
    reason: str
    num_files: int = 1
    """The number of the scene's files that it covers."""


@dataclass(frozen=True)
class LeftOut:
    """Data that was not requested; recorded so that nothing is left out silently."""

    reason: str
    count: int
    example: str
    """One of them: a path, or a name in a description."""


@dataclass(frozen=True)
class Scene:
    """Something that moves, filmed by one camera or by several synchronised ones."""

    name: str
    """Unique over all sources of a run; a folder is named after it."""
    videos: tuple[Film, ...]
    """In order of their camera ids; empty if no part of the scene can be used."""
    caption: str | None = None
    """One sentence that describes what is seen."""
    split: str | None = None
    """train, val or test, if the format specifies it."""
    has_clock: bool = True
    """Whether times are seconds; if not, the whole scene counts as one second (see `Source.duration_s`)."""
    fps: float | None = None
    """Frames to keep per second; None: all."""
    pose_source: str | None = None
    """The source of the poses: the format's file, or `estimate` if they are yet to be estimated."""
    warnings: tuple[str, ...] = ()
    """What a user should know, one line each."""
    bad: tuple[BadPiece, ...] = ()
    """In addition to films and pictures that are found to be bad when they are read."""
    left_out: tuple[LeftOut, ...] = ()
    """What its description contains beyond the scene; `left_out` counts files for the whole source."""
