"""Reader of the Nerfies and HyperNeRF layout (Park et al. 2021): phone captures, one moving camera or a pair of them.

::

    <folder>/<scene>/dataset.json          ids, train_ids, val_ids
                     metadata.json         by id: warp_id, camera_id
                     camera/<id>.json
                     rgb/1x/<id>.png ...   or 2x, 4x, ...: so many times smaller; the largest is read
                     caption.txt           optional

`<folder>` may also be one such scene itself. `orientation` is the rotation from world to camera with OpenCV axes,
`position` the camera's centre in the world, in COLMAP's units; `scene.json`, which centres and scales these, changes
no displacement and is not read. Intrinsics are in pixels at 1x, pixel centres at +0.5; radial (k1, k2, k3) and
tangential distortion are undone. The time is `warp_id`, an instant's number that both cameras share; there is no
clock. `val_ids` are the split val.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from fourdistill.data.readers.listing import list_scene_folders, read_caption
from fourdistill.data.readers.parsing import FORM, check_lens, check_pose, check_size, inside, read_json
from fourdistill.data.readers.posed_pictures import has_suffix
from fourdistill.data.scene import Camera, Picture, Pictures, Scene
from fourdistill.errors import InputError
from fourdistill.geometry.camera import intrinsics
from fourdistill.geometry.poses import compose

DATASET = "dataset.json"
Three = Annotated[list[float], Field(min_length=3, max_length=3)]
Two = Annotated[list[float], Field(min_length=2, max_length=2)]
Number = Annotated[int, Field(ge=0, le=10_000_000)]


@dataclass(frozen=True, config=FORM)
class _Dataset:
    ids: Annotated[list[str], Field(min_length=1)]
    val_ids: list[str] | None = None


@dataclass(frozen=True, config=FORM)
class _Metadata:
    warp_id: Number
    camera_id: Number = 0


@dataclass(frozen=True, config=FORM)
class _Camera:
    orientation: Annotated[list[Three], Field(min_length=3, max_length=3)]
    position: Three
    focal_length: float
    principal_point: Two
    image_size: Annotated[list[int], Field(min_length=2, max_length=2)]
    skew: float = 0.0
    pixel_aspect_ratio: float = 1.0
    radial_distortion: Three | None = None
    tangential_distortion: Two | None = None
    tangential: Two | None = None  # the older name


def read_nerfies(folder: Path) -> list[Scene]:
    """One scene per folder that holds `dataset.json`."""
    return [_read_scene(scene) for scene in list_scene_folders(folder, is_scene=(folder / DATASET).is_file())]


def _read_scene(folder: Path) -> Scene:
    path = folder / DATASET
    dataset = read_json(path, _Dataset, "a Nerfies description")
    metadata = read_json(folder / "metadata.json", dict[str, _Metadata], "a Nerfies description of frames")
    pictures_dir = _largest(folder / "rgb")
    first = min((frame.warp_id for frame in metadata.values()), default=0)
    val_ids = set(dataset.val_ids or ())
    cameras: dict[int, dict[int, Picture]] = {}
    for name in dataset.ids:
        if name not in metadata:
            raise InputError(f"{folder / 'metadata.json'}: {name[:200]!r}: expected an entry, as dataset.json lists it")
        frame = metadata[name]
        camera = _read_camera(inside(folder / "camera", f"{name}.json", path))
        picture = has_suffix(inside(pictures_dir, f"{name}.png", path))
        index = frame.warp_id - first
        film = cameras.setdefault(frame.camera_id, {})
        if index in film:
            raise InputError(
                f"{folder / 'metadata.json'}: {name[:200]!r}: warp_id: expected one of its own within its camera"
            )
        film[index] = Picture(picture, index, float(index), camera, "val" if name in val_ids else "train")
    films = tuple(
        Pictures(f"cam{number:02d}", path, tuple(film[index] for index in sorted(film)))
        for number, film in sorted(cameras.items())
    )
    return Scene(folder.name, films, read_caption(folder / "caption.txt"), has_clock=False, pose_source="camera/*.json")


def _largest(folder: Path) -> Path:
    """The folder rgb/<n>x with the smallest n."""
    scales = {int(path.name[:-1]): path for path in folder.glob("*x") if path.name[:-1].isdecimal() and path.is_dir()}
    if not scales:
        raise InputError(f"{folder}: expected folders of pictures 1x, 2x, ..., found none")
    return scales[min(scales)]


def _read_camera(path: Path) -> Camera:
    camera = read_json(path, _Camera, "a Nerfies camera")
    if camera.skew:
        raise InputError(f"{path}: skew: expected 0, which is all that is undone here")
    size = check_size((camera.image_size[0], camera.image_size[1]), f"{path}: image_size")
    K = intrinsics(camera.focal_length, camera.focal_length * camera.pixel_aspect_ratio, *camera.principal_point)
    c2w = compose(np.array(camera.orientation).T, camera.position)
    k1, k2, k3 = camera.radial_distortion or (0.0, 0.0, 0.0)
    p1, p2 = camera.tangential_distortion or camera.tangential or (0.0, 0.0)
    distortion = (k1, k2, p1, p2, k3) if any((k1, k2, p1, p2, k3)) else None
    return Camera(check_lens(K, str(path)), size, check_pose(c2w, f"{path}: orientation, position"), distortion)
