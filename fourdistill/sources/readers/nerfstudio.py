"""Reader of the nerfstudio layout: one `transforms.json`, with intrinsics for all frames or for each.

::

    <folder>/<scene>/transforms.json
                     images/frame_00001.png ...   or images/<camera>/..., one folder per camera; RGBA on `background`
                     caption.txt                  optional

`<folder>` may also be one such scene itself. `transform_matrix` is c2w (4, 4) with OpenGL axes, world +z up, in any
scale. `fl_x`, `fl_y`, `cx`, `cy` are in pixels of a `w` x `h` image, pixel centres at +0.5; `camera_angle_x` serves
where there is no `fl_x`. `k1`, `k2`, `p1`, `p2`, `k3` (or `distortion_params`: k1, k2, k3, k4, p1, p2) are undone;
fisheye, 360-degree and rolling-shutter cameras are refused. `applied_transform`, `applied_scale` and the like are in
the poses already. A frame's `time` is of any unit; without it names count: equal ones in several folders, or equal
numbers, are one instant. The frames of one folder are one camera, which moves, or several where some share a `time`.
There is no clock. `train_filenames`, `val_filenames` and `test_filenames`, where given, are the split; what they do
not name is left out where `train_filenames` is given.
"""

from dataclasses import replace
from pathlib import Path

from fourdistill.errors import InputError
from fourdistill.scene import LeftOut, Scene
from fourdistill.sources.formats import Format
from fourdistill.sources.names import canonical
from fourdistill.sources.readers.listing import PICTURE_SUFFIXES, marked_by, read_caption, read_scenes
from fourdistill.sources.readers.posed_pictures import Shot, films
from fourdistill.sources.readers.transforms import Transforms, read_shots, read_transforms, remarks

TRANSFORMS = "transforms.json"


def read_nerfstudio(folder: Path) -> list[Scene]:
    """One scene per folder that holds `transforms.json`."""
    return read_scenes(folder, (folder / TRANSFORMS).is_file(), PICTURE_SUFFIXES, _read_scene)


def _read_scene(folder: Path) -> Scene:
    path = folder / TRANSFORMS
    transforms = read_transforms(path, "a nerfstudio description")
    shots = read_shots(path, transforms)
    splits = _splits(path, transforms, shots)
    unlisted = [shot.name for shot in shots if transforms.train_filenames and shot.name not in splits]
    used = [replace(shot, split=splits.get(shot.name)) for shot in shots if shot.name not in set(unlisted)]
    return Scene(
        folder.name,
        films(used, path),
        read_caption(folder / "caption.txt"),
        has_clock=False,
        pose_source=TRANSFORMS,
        warnings=remarks(path, transforms),
        left_out=(LeftOut("frame that no list of the split names", len(unlisted), min(unlisted)),) if unlisted else (),
    )


def _splits(path: Path, transforms: Transforms, shots: list[Shot]) -> dict[str, str]:
    """Picture => its split, test before val before train; raises `InputError` for a name that no frame has."""
    names, splits = {shot.name for shot in shots}, {}
    for split in ("train", "val", "test"):
        key = f"{split}_filenames"
        for listed in getattr(transforms, key) or []:
            if (name := canonical(listed)) not in names:
                raise InputError(f"{path}: {key}: {listed[:200]!r}: expected the file_path of a frame, found no such")
            splits[name] = split
    return splits


FORMAT = Format(read_nerfstudio, marked_by(TRANSFORMS))
