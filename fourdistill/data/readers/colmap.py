"""Reader of COLMAP models (Schoenberger & Frahm 2016) beside their pictures, rigs included.

::

    <folder>/<scene>/images/0001.jpg ...              one camera, which moves
                     images/<camera>/0001.jpg ...     or one folder per camera
                     sparse/0/cameras.bin images.bin  or .txt; or sparse/ itself; rigs with frames.bin
                     caption.txt                      optional

`<folder>` may also be one such scene itself. Poses are w2c quaternions and translations with OpenCV axes, in any
scale; intrinsics are in pixels, pixel centres at +0.5. Radial and tangential distortion is undone, other lenses are
refused. The time is the order of names, the same for all folders; where a rig's frames say which pictures belong to
one instant, those count, and its cameras are told apart by their ids; they are named after their folders where each
has one of its own. There is no clock and no split.
"""

from collections import Counter
from pathlib import Path, PurePosixPath

from fourdistill.data.readers.colmap_model import Model, ModelImage, read_model
from fourdistill.data.readers.listing import list_scene_folders, natural_key, read_caption
from fourdistill.data.readers.parsing import inside
from fourdistill.data.readers.posed_pictures import Shot, films
from fourdistill.data.scene import Camera, Picture, Pictures, Scene
from fourdistill.errors import InputError

_MODEL_FOLDERS = ("sparse/0", "sparse", "colmap/sparse/0", ".")


def read_colmap(folder: Path) -> list[Scene]:
    """One scene per folder that holds `images/` and a model."""
    is_scene = (folder / "images").is_dir() or _find_model(folder) is not None
    return [_read_scene(scene) for scene in list_scene_folders(folder, is_scene)]


def _find_model(folder: Path) -> Path | None:
    candidates = (folder / name for name in _MODEL_FOLDERS)
    return next((path for path in candidates if any((path / f"images{s}").is_file() for s in (".bin", ".txt"))), None)


def _read_scene(folder: Path) -> Scene:
    model_dir = _find_model(folder)
    if model_dir is None:
        raise InputError(f"{folder}: expected a COLMAP model in sparse/0, found none")
    model = read_model(model_dir)
    if not model.images:
        raise InputError(f"{model_dir}: expected at least one registered picture, found none")
    shared = Counter(model.instants.get(image.image_id) for image in model.images if model.instants)
    by_rig = max(shared.values(), default=0) > 1 and None not in shared
    cameras = _rig_films(model, folder / "images", model_dir) if by_rig else _films(model, folder / "images", model_dir)
    return Scene(
        folder.name,
        cameras,
        read_caption(folder / "caption.txt"),
        has_clock=False,
        pose_source=f"COLMAP, {model_dir.relative_to(folder)}",
    )


def _films(model: Model, images_dir: Path, source: Path) -> tuple[Pictures, ...]:
    shots = [Shot(image.name, inside(images_dir, image.name, source), _camera(model, image)) for image in model.images]
    return films(shots, source)


def _rig_films(model: Model, images_dir: Path, source: Path) -> tuple[Pictures, ...]:
    """One film per camera id; instants are the rig's frames, in order of their first picture's file name."""
    folders: dict[int, set[str]] = {}
    first_name: dict[int, str] = {}
    for image in model.images:
        name = PurePosixPath(image.name).name
        frame = model.instants[image.image_id]
        first_name[frame] = min(first_name.get(frame, name), name, key=natural_key)
        folders.setdefault(image.camera_id, set()).add(PurePosixPath(image.name).parent.name)
    order = sorted(first_name, key=lambda frame: (natural_key(first_name[frame]), frame))
    instants = {frame: index for index, frame in enumerate(order)}
    cameras: dict[int, dict[int, Picture]] = {}
    for image in model.images:
        index = instants[model.instants[image.image_id]]
        film = cameras.setdefault(image.camera_id, {})
        if index in film:
            raise InputError(f"{source}: {image.name[:200]!r}: expected one picture per camera and frame of the rig")
        path = inside(images_dir, image.name, source)
        film[index] = Picture(path, index, float(index), _camera(model, image))
    names = {camera_id: min(found) for camera_id, found in folders.items() if len(found) == 1 and "" not in found}
    if len(set(names.values())) < len(folders):
        names = {camera_id: f"cam{camera_id:02d}" for camera_id in folders}
    return tuple(
        Pictures(names[camera_id], source, tuple(film[index] for index in sorted(film)))
        for camera_id, film in sorted(cameras.items(), key=lambda item: names[item[0]])
    )


def _camera(model: Model, image: ModelImage) -> Camera:
    camera = model.cameras[image.camera_id]
    return Camera(camera.K, camera.size, image.c2w, camera.distortion)
