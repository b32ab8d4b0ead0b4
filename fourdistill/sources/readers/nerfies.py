"""Reader of the Nerfies and HyperNeRF layout (Park et al. 2021): phone captures with one or two moving cameras.

::

    <folder>/<scene>/dataset.json          ids, train_ids, val_ids
                     metadata.json         by id: warp_id, camera_id
                     camera/<id>.json
                     rgb/1x/<id>.png ...   or 2x, 4x, ...: smaller by that factor; the largest is read
                     caption.txt           optional

`<folder>` may also be one such scene itself. `orientation` is the rotation from world to camera with OpenCV axes, and
`position` is the camera's centre in the world, in COLMAP's units. `scene.json`, which centres and scales these, does
not affect displacements and is not read. Intrinsics are in pixels at 1x, pixel centres at +0.5. Radial (k1, k2, k3)
and tangential distortion is corrected; skew is rejected. The time is `warp_id`, an instant's number that both cameras
share; there is no clock. `val_ids` are the split val. An id whose camera cannot be read is counted as bad.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from fourdistill.errors import InputError
from fourdistill.geometry.camera import intrinsics
from fourdistill.geometry.poses import compose
from fourdistill.scene import Camera, Picture, Pictures, Scene
from fourdistill.sources.formats import Format
from fourdistill.sources.names import canonical
from fourdistill.sources.readers.listing import PICTURE_SUFFIXES, marked_by, read_caption, read_scenes
from fourdistill.sources.readers.parsing import FORM, check_lens, check_pose, check_size, inside, locate, read_json
from fourdistill.sources.readers.pieces import Pieces
from fourdistill.sources.readers.posed_pictures import ENDINGS

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
    """One scene per folder with `dataset.json`."""
    return read_scenes(folder, (folder / DATASET).is_file(), PICTURE_SUFFIXES, _read_scene)


def _read_scene(folder: Path) -> Scene:
    path = folder / DATASET
    dataset = read_json(path, _Dataset, "a Nerfies description")
    metadata = read_json(folder / "metadata.json", dict[str, _Metadata], "a Nerfies description of frames")
    metadata = {canonical(name): frame for name, frame in metadata.items()}
    splits = _splits(path, dataset)
    pictures_dir = _largest(folder / "rgb")
    first = min((frame.warp_id for frame in metadata.values()), default=0)
    cameras: dict[int, dict[int, Picture]] = {}
    pieces = Pieces()
    for name in dataset.ids:
        picture = locate(pictures_dir, name, path, ENDINGS)
        camera_path = inside(folder / "camera", f"{name}.json", path)
        with pieces.reading(picture):
            frame = _entry(folder / "metadata.json", metadata, name)
            index, film = frame.warp_id - first, cameras.get(frame.camera_id, {})
            if index in film:
                where = f"{folder / 'metadata.json'}: {name[:200]!r}"
                raise InputError(f"{where}: warp_id: expected one of its own within its camera")
            split = splits[canonical(name)]
            film[index] = Picture(picture, index, float(index), _read_camera(camera_path), split)
            cameras[frame.camera_id] = film
    bad = pieces.bad()
    films = tuple(
        Pictures(f"cam{number:02d}", path, tuple(film[index] for index in sorted(film)))
        for number, film in sorted(cameras.items())
    )
    caption = read_caption(folder / "caption.txt")
    return Scene(folder.name, films, caption, has_clock=False, pose_source="camera/*.json", bad=bad)


def _entry(path: Path, metadata: dict[str, _Metadata], name: str) -> _Metadata:
    if canonical(name) not in metadata:
        raise InputError(f"{path}: {name[:200]!r}: expected an entry, as dataset.json lists it")
    return metadata[canonical(name)]


def _splits(path: Path, dataset: _Dataset) -> dict[str, str]:
    """Id => train or val (val wins); raises `InputError` if one of `val_ids` is not in `ids`: training might use it."""
    ids = set(map(canonical, dataset.ids))
    for name in dataset.val_ids or ():
        if canonical(name) not in ids:
            raise InputError(f"{path}: val_ids: {name[:200]!r}: expected one of ids")
    return dict.fromkeys(ids, "train") | dict.fromkeys(map(canonical, dataset.val_ids or ()), "val")


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


FORMAT = Format(read_nerfies, marked_by(DATASET))
