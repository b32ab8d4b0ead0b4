"""Reader of the nerfstudio layout: one `transforms.json`, with intrinsics for all frames or for each.

::

    <folder>/<scene>/transforms.json
                     images/frame_00001.png ...   or images/<camera>/..., one folder per camera; RGBA on `background`
                     caption.txt                  optional

`<folder>` may also be one such scene itself. `transform_matrix` is c2w (4, 4) with OpenGL axes, world +z up, in any
scale. `fl_x`, `fl_y`, `cx`, `cy` are in pixels of a `w` x `h` image, pixel centres at +0.5; `camera_angle_x` serves
where there is no `fl_x`. `k1`, `k2`, `p1`, `p2`, `k3` (or `distortion_params`: k1, k2, k3, k4, p1, p2) are undone;
fisheye and 360-degree cameras are refused. A frame's `time` is of any unit; without it the order of names counts. The
frames of one folder are one camera, which moves, or several where some share a `time`. There is no clock.
`train_filenames`, `val_filenames` and `test_filenames`, where given, are the split.
"""

from pathlib import Path, PurePosixPath
from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from fourdistill.data.readers.listing import list_scene_folders, read_caption
from fourdistill.data.readers.parsing import (
    FORM,
    check_lens,
    check_pose,
    check_size,
    inside,
    picture_size,
    read_json,
)
from fourdistill.data.readers.posed_pictures import Shot, films, focal_from_angle, has_suffix
from fourdistill.data.scene import Camera, Scene
from fourdistill.errors import InputError
from fourdistill.geometry.camera import intrinsics
from fourdistill.geometry.poses import opengl_to_opencv

TRANSFORMS = "transforms.json"
MODELS = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")
Row = Annotated[list[float], Field(min_length=4, max_length=4)]


@dataclass(frozen=True, config=FORM)
class _Lens:
    """Keys that stand for all frames, or for one."""

    camera_model: str | None = None
    fl_x: float | None = None
    fl_y: float | None = None
    cx: float | None = None
    cy: float | None = None
    w: float | None = None
    h: float | None = None
    camera_angle_x: float | None = None
    k1: float | None = None
    k2: float | None = None
    k3: float | None = None
    k4: float | None = None
    p1: float | None = None
    p2: float | None = None
    distortion_params: Annotated[list[float], Field(min_length=6, max_length=6)] | None = None
    is_fisheye: bool | None = None  # instant-ngp's word for it


@dataclass(frozen=True, config=FORM, kw_only=True)
class _Frame(_Lens):
    file_path: str
    transform_matrix: Annotated[list[Row], Field(min_length=4, max_length=4)]
    time: float | None = None
    mask_path: str | None = None


@dataclass(frozen=True, config=FORM, kw_only=True)
class _Transforms(_Lens):
    frames: Annotated[list[_Frame], Field(min_length=1)]
    train_filenames: list[str] | None = None
    val_filenames: list[str] | None = None
    test_filenames: list[str] | None = None


def read_nerfstudio(folder: Path) -> list[Scene]:
    """One scene per folder that holds `transforms.json`."""
    return [_read_scene(scene) for scene in list_scene_folders(folder, is_scene=(folder / TRANSFORMS).is_file())]


def _read_scene(folder: Path) -> Scene:
    path = folder / TRANSFORMS
    transforms = read_json(path, _Transforms, "a nerfstudio description")
    listed = {"train": transforms.train_filenames, "val": transforms.val_filenames, "test": transforms.test_filenames}
    splits = {str(PurePosixPath(name)): split for split, names in listed.items() for name in names or []}
    shots = []
    for number, frame in enumerate(transforms.frames):
        where = f"{path}: frames.{number}"
        name = str(PurePosixPath(frame.file_path.replace("\\", "/")))
        picture = has_suffix(inside(folder, name, path))
        c2w = check_pose(opengl_to_opencv(np.array(frame.transform_matrix)), f"{where}.transform_matrix")
        camera = _camera(transforms, frame, picture, c2w, where)
        shots.append(Shot(name, picture, camera, frame.time, splits.get(name)))
    masks = any(frame.mask_path for frame in transforms.frames)
    warnings = ("mask_path: masks are not applied",) if masks else ()
    return Scene(
        folder.name,
        films(shots, path),
        read_caption(folder / "caption.txt"),
        has_clock=False,
        pose_source=TRANSFORMS,
        warnings=warnings,
    )


def _camera(transforms: _Transforms, frame: _Frame, picture: Path, c2w: np.ndarray, where: str) -> Camera:
    """The camera of a frame, whose own keys come before those of the file."""

    def value(name: str, default: float | None = None) -> float | None:
        for lens in (frame, transforms):
            if (found := getattr(lens, name)) is not None:
                return found
        return default

    model = frame.camera_model or transforms.camera_model or "OPENCV"
    lens = {name: value(name, 0.0) or 0.0 for name in ("k1", "k2", "k3", "k4", "p1", "p2")}
    if (params := frame.distortion_params or transforms.distortion_params) is not None:
        lens = dict(zip(lens, params, strict=True))
    if model not in MODELS or lens["k4"] or frame.is_fisheye or transforms.is_fisheye:
        raise InputError(
            f"{where}: camera_model: expected one of {', '.join(MODELS)}, no fisheye and no k4, found {model}"
        )
    width, height = value("w"), value("h")
    if width is None or height is None:
        width, height = picture_size(picture) or (None, None)
    if width is None or height is None:
        raise InputError(f"{where}: expected w and h, or a readable picture at {picture}")
    size = check_size((round(width), round(height)), where)
    angle, focal = value("camera_angle_x"), value("fl_x")
    if focal is None and angle is not None and 0 < angle < np.pi:
        focal = focal_from_angle(angle, size[0])
    if focal is None:
        raise InputError(f"{where}: expected fl_x or camera_angle_x, found neither")
    K = intrinsics(focal, value("fl_y", focal) or 0, value("cx", size[0] / 2) or 0, value("cy", size[1] / 2) or 0)
    distortion = tuple(lens[name] for name in ("k1", "k2", "p1", "p2", "k3"))
    return Camera(check_lens(K, where), size, c2w, distortion if any(distortion) else None)
