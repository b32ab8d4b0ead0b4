"""Parser for the transforms files of nerfstudio, instant-ngp, Blender exporters and D-NeRF, which share one form."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from fourdistill.errors import InputError
from fourdistill.geometry.camera import intrinsics
from fourdistill.geometry.poses import opengl_to_opencv
from fourdistill.scene import Camera
from fourdistill.sources.names import canonical
from fourdistill.sources.readers.parsing import (
    FORM,
    check_lens,
    check_pose,
    check_size,
    locate,
    picture_size,
    read_json,
)
from fourdistill.sources.readers.posed_pictures import ENDINGS, Shot, focal_from_angle

MODELS = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")
# Keys of unsupported cameras; false or 0 if not used.
_OTHER_LENSES = (
    "is_fisheye", "latlong", "equirectangular", "ftheta_p0", "ftheta_p1", "ftheta_p2", "ftheta_p3", "ftheta_p4",
    "k4", "k5", "k6", "s1", "s2", "s3", "s4", "b1", "b2", "skew", "rolling_shutter",
)  # fmt: skip
# Keys that can be ignored: already included in the poses, unrelated to the cameras, or redundant.
_HARMLESS = frozenset(
    {
        "applied_transform", "applied_scale", "orientation_override", "auto_scale_poses_override", "ply_file_path",
        "aabb", "aabb_scale", "render_aabb", "scale", "offset", "up", "from_na", "sharpness", "rotation",
        "colmap_im_id", "depth_file_path", "depth_path", "depth_unit_scale_factor", "integer_depth_scale",
        "enable_depth_loading", "n_extra_learnable_dims", "id", "near", "far",
    }
)  # fmt: skip
Row = Annotated[list[float], Field(min_length=4, max_length=4)]
_OPEN = ConfigDict(FORM, extra="allow")  # so that unread keys can be reported


@dataclass(frozen=True, config=_OPEN)
class _Lens:
    """Keys that apply to all frames, or to one."""

    camera_model: str | None = None
    fl_x: float | None = None
    fl_y: float | None = None
    cx: float | None = None
    cy: float | None = None
    w: float | None = None
    h: float | None = None
    camera_angle_x: float | None = None
    camera_angle_y: float | None = None
    k1: float | None = None
    k2: float | None = None
    k3: float | None = None
    p1: float | None = None
    p2: float | None = None
    distortion_params: Annotated[list[float], Field(min_length=6, max_length=6)] | None = None


@dataclass(frozen=True, config=_OPEN, kw_only=True)
class Frame(_Lens):
    """One picture and its pose, c2w (4, 4) with OpenGL axes."""

    file_path: str
    transform_matrix: Annotated[list[Row], Field(min_length=4, max_length=4)]
    time: float | None = None
    mask_path: str | None = None


@dataclass(frozen=True, config=_OPEN, kw_only=True)
class Transforms(_Lens):
    """A whole file."""

    frames: Annotated[list[Frame], Field(min_length=1)]
    train_filenames: list[str] | None = None
    val_filenames: list[str] | None = None
    test_filenames: list[str] | None = None


def read_transforms(path: Path, what: str) -> Transforms:
    """Read a transforms file; raises `InputError` with the field and what was expected."""
    return read_json(path, Transforms, what)


def read_shots(path: Path, transforms: Transforms) -> list[Shot]:
    """The pictures of a file, in its order, with their cameras; raises `InputError` for an invalid camera.

    A missing or broken picture gets the size of the others; its extraction reports the error.
    """
    folder = path.parent
    pictures = [locate(folder, frame.file_path, path, ENDINGS) for frame in transforms.frames]
    sizes: list[tuple[int, int] | None] = [None] * len(pictures)
    if any((frame.w or transforms.w) is None or (frame.h or transforms.h) is None for frame in transforms.frames):
        sizes = [picture_size(picture) for picture in pictures]
    usual = next(filter(None, sizes), None)
    shots = []
    for number, (frame, picture, size) in enumerate(zip(transforms.frames, pictures, sizes, strict=True)):
        where = f"{path}: frames.{number}"
        c2w = check_pose(opengl_to_opencv(np.array(frame.transform_matrix)), f"{where}.transform_matrix")
        camera = _camera(transforms, frame, size or usual, c2w, where)
        shots.append(Shot(canonical(frame.file_path), picture, camera, frame.time))
    return shots


def remarks(path: Path, transforms: Transforms) -> tuple[str, ...]:
    """The unused content of a file, one line each."""
    keys = set(_unknown(transforms)).union(*map(_unknown, transforms.frames)) - _HARMLESS - set(_OTHER_LENSES)
    lines = [f"{path.name}: not read: {', '.join(sorted(keys))[:200]}"] if keys else []
    masks = any(frame.mask_path for frame in transforms.frames)
    return (*lines, *["mask_path: masks are not applied"] * masks)


def _unknown(keys: _Lens) -> Iterable[str]:
    return keys.__dict__.keys() - type(keys).__dataclass_fields__.keys()


def _camera(
    transforms: Transforms, frame: Frame, picture: tuple[int, int] | None, c2w: np.ndarray, where: str
) -> Camera:
    """The camera of a frame; its own keys override those of the file."""

    def value(name: str) -> float | None:
        found = getattr(frame, name)
        return getattr(transforms, name) if found is None else found

    _check_kind(transforms, frame, where)
    width, height = value("w"), value("h")
    if width is None or height is None:
        width, height = picture or (None, None)
    if width is None or height is None:
        raise InputError(f"{where}: expected w and h, or a readable picture at {frame.file_path[:200]!r}")
    size = check_size((round(width), round(height)), where)
    fx = _focal(value("fl_x"), value("camera_angle_x"), size[0])
    fy = _focal(value("fl_y"), value("camera_angle_y"), size[1])
    if fx is None and fy is None:
        raise InputError(f"{where}: expected fl_x or camera_angle_x, found neither")
    cx, cy = value("cx"), value("cy")
    K = intrinsics(
        fx if fx is not None else fy or 0,
        fy if fy is not None else fx or 0,
        size[0] / 2 if cx is None else cx,
        size[1] / 2 if cy is None else cy,
    )
    k1, k2, k3, p1, p2 = (value(name) or 0.0 for name in ("k1", "k2", "k3", "p1", "p2"))
    params = frame.distortion_params or transforms.distortion_params
    if params is not None:
        k1, k2, k3, _, p1, p2 = params
    lens = (k1, k2, p1, p2, k3)
    return Camera(check_lens(K, where), size, c2w, lens if any(lens) else None)


def _focal(focal: float | None, angle: float | None, length: int) -> float | None:
    if focal is None and angle is not None and 0 < angle < math.pi:
        return focal_from_angle(angle, length)
    return focal


def _check_kind(transforms: Transforms, frame: Frame, where: str) -> None:
    """Raise `InputError` for an unsupported lens."""
    model = frame.camera_model or transforms.camera_model or "OPENCV"
    params = frame.distortion_params or transforms.distortion_params or [0.0] * 6
    others = [key for keys in (frame, transforms) for key in _OTHER_LENSES if _is_said(keys.__dict__.get(key))]
    if model not in MODELS or params[3] or others:
        found = others[0] if others else "k4 in distortion_params" if params[3] else model
        raise InputError(
            f"{where}: camera_model: expected one of {', '.join(MODELS)}, no fisheye and no k4, found {found[:40]}"
        )


def _is_said(value: object) -> bool:
    """Whether a key has a value other than null, false, 0, or a list of only these."""
    return any(map(_is_said, value)) if isinstance(value, list) else bool(value)
