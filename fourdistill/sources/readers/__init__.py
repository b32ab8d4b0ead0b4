"""A source folder to scenes, by the reader of its format, without decoding pixels."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from fourdistill.errors import InputError
from fourdistill.scene import Film, LeftOut, Pictures, Scene
from fourdistill.sources.formats import FORMATS, NAMES, load_format
from fourdistill.sources.readers.left_out import left_out
from fourdistill.sources.readers.listing import readable
from fourdistill.sources.readers.parsing import noting_descriptions
from fourdistill.sources.settings import Source

ESTIMATE = "estimate"


@dataclass(frozen=True)
class SourceFolder:
    """One folder of raw data and how to read it."""

    folder: Path
    format: str
    """One of `FORMATS`."""
    prefix: str = ""
    """Prefix of its scene names."""
    fps: float | None = None
    """Frames to keep per second; None: all."""
    duration_s: float | None = None
    """Duration of a scene, for formats without a clock; None: a nominal second."""
    background: str = "white"
    """Colour behind transparent pixels."""
    estimate_poses: bool = False
    """Whether to estimate poses instead of reading them."""

    @classmethod
    def of(cls, source: Source, raw: Path) -> "SourceFolder":
        """The folder of a source from `params.yaml`, below the folder `raw`."""
        poses = source.poses == ESTIMATE
        shown = (source.fps, source.duration_s, source.background)
        return cls(raw / source.name, source.format, source.prefix, *shown, estimate_poses=poses)


@dataclass(frozen=True)
class ReadFolder:
    """The contents of a source folder: its scenes, and what is left out."""

    source: SourceFolder
    scenes: list[Scene]
    left_out: list[LeftOut]


def read_sources(sources: Iterable[SourceFolder]) -> list[Scene]:
    """All scenes of every source, sorted by name; raises like `read_source` and `scenes_of`."""
    return _by_name(scene for source in sources for scene in read_source(source))


def scenes_of(folders: Iterable[ReadFolder]) -> list[Scene]:
    """All scenes of folders already read, sorted by name; raises `InputError` if two have the same name."""
    return _by_name(scene for folder in folders for scene in folder.scenes)


def read_source(source: SourceFolder) -> list[Scene]:
    """Scenes of one source folder, at least one; raises `InputError` if there is nothing to read."""
    with readable(source.folder):
        return _read(source)


def read_folder(source: SourceFolder) -> ReadFolder:
    """Like `read_source`, together with what is left out."""
    with readable(source.folder), noting_descriptions() as descriptions:
        scenes = _read(source)
        return ReadFolder(source, scenes, left_out(_named(source.folder), source.format, scenes, descriptions))


def _read(source: SourceFolder) -> list[Scene]:
    folder, format_name = _named(source.folder), source.format
    if format_name not in FORMATS:
        raise InputError(f"{folder}: format: expected one of {NAMES}, got {format_name!r}")
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of format {format_name!r}, found none")
    if not any(folder.iterdir()):
        raise InputError(f"{folder}: expected scenes of format {format_name!r}, found an empty folder")
    return [_finish(scene, source) for scene in load_format(format_name).read(folder)]


def _by_name(scenes: Iterable[Scene]) -> list[Scene]:
    found: dict[str, Scene] = {}
    for scene in scenes:
        if scene.name in found:
            first, second = (_place(one) for one in (found[scene.name], scene))
            raise InputError(
                f"{second}: scene {scene.name!r}: expected a name of its own, "
                f"but {first} belongs to a scene of that name; see sources: prefix"
            )
        found[scene.name] = scene
    return [found[name] for name in sorted(found)]


def _place(scene: Scene) -> Path:
    return scene.videos[0].path if scene.videos else scene.bad[0].path


def _named(folder: Path) -> Path:
    """The same folder as a path whose last part can name a scene."""
    return folder if folder.name not in ("", "..") else folder.resolve()


def _finish(scene: Scene, source: SourceFolder) -> Scene:
    """A scene with the settings of its source."""
    if not scene.videos:
        return replace(scene, name=source.prefix + scene.name)
    if source.duration_s is not None and scene.has_clock:
        raise InputError(
            f"{source.folder}: duration_s: expected null for format {source.format!r}, which has a clock of its own"
        )
    if source.estimate_poses and scene.pose_source is not None:
        raise InputError(
            f"{source.folder}: poses: expected read for format {source.format!r}, which has poses of its own"
        )
    videos = scene.videos if scene.has_clock else _scaled(scene.videos, source.duration_s or 1.0)
    videos = tuple(replace(video, background=source.background) for video in videos)
    warnings = scene.warnings
    if not scene.has_clock and source.duration_s is None:
        warnings += ("no clock: the whole scene is counted as one second; see duration_s",)
    return replace(
        scene,
        name=source.prefix + scene.name,
        videos=videos,
        fps=source.fps,
        has_clock=scene.has_clock or source.duration_s is not None,
        pose_source=ESTIMATE if source.estimate_poses else scene.pose_source,
        warnings=warnings,
    )


def _scaled(films: tuple[Film, ...], duration_s: float) -> tuple[Film, ...]:
    """Films with their times, in any unit, scaled to run from 0 to `duration_s` over the scene."""
    times = [picture.timestamp_s for film in films if isinstance(film, Pictures) for picture in film.pictures]
    first, span = min(times), (max(times) - min(times)) or 1.0
    return tuple(
        replace(
            film,
            pictures=tuple(
                replace(picture, timestamp_s=(picture.timestamp_s - first) / span * duration_s)
                for picture in film.pictures
            ),
        )
        if isinstance(film, Pictures)
        else film
        for film in films
    )
