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
    """(width, height) of the images that K speaks of; the film may be a resized copy."""
    c2w: Array
    """(4, 4) camera-to-world, OpenCV axes, translation in the source's units."""
    distortion: tuple[float, ...] | None = None
    """Brown-Conrady k1, k2, p1, p2 and possibly k3, on normalised image points; None for an ideal lens."""


@dataclass(frozen=True)
class Video:
    """One camera's film of a scene in a video file; nothing but the file's existence has been looked at."""

    camera_id: str
    """Unique within the scene; a folder is named after it."""
    path: Path
    camera: Camera | None = None
    """Of a camera that stands still; None where nothing is known about it."""
    offset_s: float = 0.0
    """Added to the container's times, so that those of the scene's cameras agree."""
    track: tuple[tuple[float, Camera], ...] = ()
    """Of a camera that moves: its pose at some presentation times in seconds. Frames at other times have none."""
    background: str = "white"
    """What transparent pixels show: a colour that Pillow knows."""


@dataclass(frozen=True)
class Picture:
    """One frame in an image file."""

    path: Path
    index: int
    """The instant, which cameras that filmed together agree on."""
    timestamp_s: float
    camera: Camera | None
    split: str | None = None
    """train, val or test, where the format says so."""


@dataclass(frozen=True)
class Pictures:
    """One camera's film of a scene in image files; nothing but their existence has been looked at."""

    camera_id: str
    """Unique within the scene; a folder is named after it."""
    path: Path
    """What describes them: a file, or the folder that they lie in."""
    pictures: tuple[Picture, ...]
    """In order of `index`, which is unique among them; at least one."""
    background: str = "white"
    """What transparent pixels show: a colour that Pillow knows."""


Film = Video | Pictures


@dataclass(frozen=True)
class BadPiece:
    """A part of a scene that its description promises and that cannot be used: it is skipped and counted."""

    path: Path
    reason: str
    num_files: int = 1
    """How many of the scene's files it stands for."""


@dataclass(frozen=True)
class LeftOut:
    """What nobody asked for, so that nothing is left out in silence."""

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
    """In order of their camera ids; none where no part of the scene can be used."""
    caption: str | None = None
    """What is seen, in a sentence."""
    split: str | None = None
    """train, val or test, where the format says so."""
    has_clock: bool = True
    """Whether times are seconds; if not, the whole scene is counted as one (see `Source.duration_s`)."""
    fps: float | None = None
    """Frames to keep per second; None: all."""
    pose_source: str | None = None
    """Where the poses come from: the format's file, or `estimate` where they are yet to be estimated."""
    warnings: tuple[str, ...] = ()
    """What a user should know, a line each."""
    bad: tuple[BadPiece, ...] = ()
    """Beside films and pictures that turn out to be bad when they are read."""
    left_out: tuple[LeftOut, ...] = ()
    """What its description holds beyond the scene; files are counted for the whole source, by `left_out`."""
