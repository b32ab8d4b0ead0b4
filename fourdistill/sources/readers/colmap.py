"""Reader of COLMAP models (Schoenberger & Frahm 2016) and their pictures, including rigs.

::

    <folder>/<scene>/images/0001.jpg ...              one moving camera
                     images/<camera>/0001.jpg ...     or one folder per camera
                     sparse/0/cameras.bin images.bin  or .txt; or sparse/ itself, or in colmap/; rigs with frames.bin
                     caption.txt                      optional

`<folder>` may also be one such scene itself. If there are several models, the one with the most pictures is read.
Poses are w2c quaternions and translations with OpenCV axes, in any scale. Intrinsics are in pixels of the stored
pictures, pixel centres at +0.5. Radial and tangential distortion is corrected; other lenses are rejected. The order of
names gives the time: equal names in several folders, or otherwise equal numbers in the names, are one instant, and
unregistered pictures also take up instants. If the frames of a rig define instants, these are used instead, and its
cameras are distinguished by id and named after their folders if each has its own. There is no clock and no split.
"""

from collections import Counter
from pathlib import Path, PurePosixPath

from fourdistill.errors import InputError
from fourdistill.scene import Camera, Scene
from fourdistill.sources.formats import Format
from fourdistill.sources.names import canonical
from fourdistill.sources.readers.colmap_model import Model, count_images, has_model, read_model
from fourdistill.sources.readers.listing import (
    PICTURE_SUFFIXES,
    marked_by,
    natural_key,
    read_caption,
    read_scenes,
    visible,
)
from fourdistill.sources.readers.parsing import locate
from fourdistill.sources.readers.pieces import Pieces
from fourdistill.sources.readers.posed_pictures import Shot, films, name_folders


def read_colmap(folder: Path) -> list[Scene]:
    """One scene per folder with `images/` and a model."""
    is_scene = (folder / "images").is_dir() or bool(_models(folder))
    return read_scenes(folder, is_scene, PICTURE_SUFFIXES, _read_scene)


def _models(folder: Path) -> list[Path]:
    """The folders of models, the one with the most pictures first."""
    places = [folder / "sparse", folder / "colmap" / "sparse"]
    found = [path for place in places if place.is_dir() for path in [*visible(place), place]]
    models = [path for path in [*found, folder] if has_model(path)]
    return sorted(models, key=_num_pictures, reverse=True) if len(models) > 1 else models


def _num_pictures(model: Path) -> int:
    """The number of pictures of a model, 0 if it is damaged."""
    try:
        return count_images(model)
    except InputError:
        return 0


def _read_scene(folder: Path) -> Scene:
    models = _models(folder)
    if not models:
        raise InputError(f"{folder}: expected a COLMAP model in sparse/0, found none")
    model = read_model(models[0])
    if not model.images:
        raise InputError(f"{models[0]}: expected at least one registered picture, found none")
    others = [f"{path.relative_to(folder)} with {_num_pictures(path)}" for path in models[1:]]
    largest = f"{models[0].relative_to(folder)} with {len(model.images)} pictures is read"
    pieces = Pieces()
    shots = _shots(model, folder / "images", models[0], pieces)
    bad = pieces.bad()
    return Scene(
        folder.name,
        films(shots, models[0]),
        read_caption(folder / "caption.txt"),
        has_clock=False,
        pose_source=f"COLMAP, {models[0].relative_to(folder)}",
        warnings=(f"several models: {largest}, not {', '.join(others)}",) if others else (),
        bad=bad,
    )


def _shots(model: Model, images_dir: Path, source: Path, pieces: Pieces) -> list[Shot]:
    """The pictures of a model; for a rig, cameras and times come from its frames."""
    shared = Counter(model.instants.get(image.image_id) for image in model.images if model.instants)
    by_rig = max(shared.values(), default=0) > 1 and None not in shared
    names = _rig_cameras(model) if by_rig else {}
    order = _rig_order(model) if by_rig else {}
    shots = []
    for image in model.images:
        path = locate(images_dir, image.name, source)
        with pieces.reading(path):
            camera = model.cameras[image.camera_id]
            if isinstance(camera, InputError):
                raise camera
            posed = Camera(camera.K, camera.size, image.c2w, camera.distortion)
            time = order[model.instants[image.image_id]] if by_rig else None
            shots.append(Shot(canonical(image.name), path, posed, time, taken_by=names.get(image.camera_id)))
    return shots


def _rig_order(model: Model) -> dict[int, float]:
    """Frame of a rig => its rank, with frames sorted by the first name in each."""
    first_name: dict[int, str] = {}
    for image in model.images:
        name, frame = PurePosixPath(canonical(image.name)).name, model.instants[image.image_id]
        first_name[frame] = min(first_name.get(frame, name), name, key=natural_key)
    order = sorted(first_name, key=lambda frame: (natural_key(first_name[frame]), frame))
    return {frame: float(index) for index, frame in enumerate(order)}


def _rig_cameras(model: Model) -> dict[int, str]:
    """Camera id => the name of its folder if each camera has its own, otherwise cam01 for id 1."""
    folders: dict[int, set[str]] = {}
    for image in model.images:
        folders.setdefault(image.camera_id, set()).add(str(PurePosixPath(canonical(image.name)).parent))
    all_folders = set().union(*folders.values())
    if len(all_folders) < len(folders) or any(len(found) > 1 for found in folders.values()) or "." in all_folders:
        return {camera_id: f"cam{camera_id:02d}" for camera_id in folders}
    names = name_folders(all_folders)
    return {camera_id: names[found.pop()] for camera_id, found in folders.items()}


FORMAT = Format(read_colmap, marked_by("sparse", "colmap/sparse", "images.bin"))
