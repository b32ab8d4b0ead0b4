"""Reader of the D-NeRF layout (Pumarola et al. 2021): Blender renderings, each from a pose and at a time of its own.

::

    <folder>/<scene>/transforms_train.json   also _val and _test; at least one of the three
                     train/r_000.png ...     RGBA, laid on `background`
                     caption.txt             optional

`<folder>` may also be one such scene itself. `transform_matrix` is c2w (4, 4) with OpenGL axes, in Blender's units;
`camera_angle_x` is the horizontal field of view in radians, the principal point the image centre, the lens ideal.
`time` is in [0, 1] over the scene, i / (n - 1) where a file gives none; there is no clock. The pictures of all three
files become one camera that is elsewhere at every instant, in order of time; where some share a time, they become
several. The files are the split; a picture that several of them name belongs to the last.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from fourdistill.data.readers.listing import list_scene_folders, read_caption
from fourdistill.data.readers.parsing import FORM, check_pose, inside, picture_size, read_json
from fourdistill.data.readers.posed_pictures import SPLITS, Shot, films, focal_from_angle, has_suffix
from fourdistill.data.scene import Camera, Scene
from fourdistill.errors import InputError
from fourdistill.geometry.camera import intrinsics
from fourdistill.geometry.poses import opengl_to_opencv

Row = Annotated[list[float], Field(min_length=4, max_length=4)]


@dataclass(frozen=True, config=FORM)
class _Frame:
    file_path: str
    transform_matrix: Annotated[list[Row], Field(min_length=4, max_length=4)]
    time: float | None = None


@dataclass(frozen=True, config=FORM)
class _Transforms:
    camera_angle_x: Annotated[float, Field(gt=0, lt=3.14159)]
    frames: Annotated[list[_Frame], Field(min_length=1)]


def read_dnerf(folder: Path) -> list[Scene]:
    """One scene per folder that holds `transforms_*.json`."""
    return [_read_scene(scene) for scene in list_scene_folders(folder, is_scene=bool(_files(folder)))]


def _files(folder: Path) -> dict[str, Path]:
    paths = {split: folder / f"transforms_{split}.json" for split in SPLITS}
    return {split: path for split, path in paths.items() if path.is_file()}


def _read_scene(folder: Path) -> Scene:
    files = _files(folder)
    if not files:
        raise InputError(f"{folder}: expected transforms_train.json, found none")
    shots: list[Shot] = []
    for split, path in reversed(files.items()):
        held_out = {shot.path for shot in shots}
        shots += [shot for shot in _read_shots(folder, path, split) if shot.path not in held_out]
    return Scene(
        folder.name,
        films(shots, next(iter(files.values())), by_folder=False),
        read_caption(folder / "caption.txt"),
        has_clock=False,
        pose_source="transforms",
    )


def _read_shots(folder: Path, path: Path, split: str) -> list[Shot]:
    """The pictures of one file."""
    transforms = read_json(path, _Transforms, "a D-NeRF description")
    pictures = [has_suffix(inside(folder, frame.file_path, path)) for frame in transforms.frames]
    size = next(filter(None, map(picture_size, pictures)), None)
    if size is None:
        raise InputError(f"{pictures[0]}: expected a picture, as {path.name} names it")
    shots = []
    for number, (frame, picture) in enumerate(zip(transforms.frames, pictures, strict=True)):
        focal = focal_from_angle(transforms.camera_angle_x, size[0])
        c2w = check_pose(
            opengl_to_opencv(np.array(frame.transform_matrix)), f"{path}: frames.{number}.transform_matrix"
        )
        time = number / max(1, len(transforms.frames) - 1) if frame.time is None else frame.time
        camera = Camera(intrinsics(focal, focal, size[0] / 2, size[1] / 2), size, c2w)
        shots.append(Shot(frame.file_path, picture, camera, time, split))
    return shots
