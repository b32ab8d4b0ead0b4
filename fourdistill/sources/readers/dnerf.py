"""Reader of the D-NeRF layout (Pumarola et al. 2021): Blender renderings, each with its own pose and time.

::

    <folder>/<scene>/transforms_train.json   also _val and _test; at least one of the three
                     train/r_000.png ...     RGBA, laid on `background`
                     caption.txt             optional

`<folder>` may also be one such scene itself. `transform_matrix` is c2w (4, 4) with OpenGL axes, in Blender's units;
`camera_angle_x` is the horizontal field of view in radians. The principal point is the image centre and the lens is
ideal, unless a file has keys of nerfstudio and instant-ngp (`fl_x`, `cx`, `k1`, ...), which are read as in those
formats. `time` is in [0, 1] over the scene, or i / (n - 1) if a file has none; there is no clock. The pictures of all
three files form one moving camera, ordered by time, or several cameras if some share a time. The files define the
split; a picture named in several files belongs to the last of them.
"""

from dataclasses import replace
from pathlib import Path

from fourdistill.errors import InputError
from fourdistill.scene import Scene
from fourdistill.sources.formats import Format
from fourdistill.sources.readers.listing import PICTURE_SUFFIXES, marked_by, read_caption, read_scenes
from fourdistill.sources.readers.posed_pictures import SPLITS, Shot, films
from fourdistill.sources.readers.transforms import Transforms, read_shots, read_transforms, remarks


def read_dnerf(folder: Path) -> list[Scene]:
    """One scene per folder with `transforms_*.json`."""
    return read_scenes(folder, bool(_files(folder)), PICTURE_SUFFIXES, _read_scene)


def _files(folder: Path) -> dict[str, Path]:
    paths = {split: folder / f"transforms_{split}.json" for split in SPLITS}
    return {split: path for split, path in paths.items() if path.is_file()}


def _read_scene(folder: Path) -> Scene:
    files = _files(folder)
    if not files:
        raise InputError(f"{folder}: expected transforms_train.json, found none")
    shots: list[Shot] = []
    lines: dict[str, None] = {}
    for split, path in reversed(files.items()):
        held_out = {shot.path for shot in shots}
        transforms = read_transforms(path, "a D-NeRF description")
        shots += [shot for shot in _read_shots(path, transforms, split) if shot.path not in held_out]
        lines |= dict.fromkeys(remarks(path, transforms))
    return Scene(
        folder.name,
        films(shots, next(iter(files.values())), by_folder=False),
        read_caption(folder / "caption.txt"),
        has_clock=False,
        pose_source="transforms",
        warnings=tuple(lines),
    )


def _read_shots(path: Path, transforms: Transforms, split: str) -> list[Shot]:
    """The pictures of one file, each with a time."""
    shots = read_shots(path, transforms)
    last = max(1, len(shots) - 1)
    return [
        replace(shot, split=split, time=number / last if shot.time is None else shot.time)
        for number, shot in enumerate(shots)
    ]


FORMAT = Format(read_dnerf, marked_by("transforms_train.json", "transforms_val.json", "transforms_test.json"))
