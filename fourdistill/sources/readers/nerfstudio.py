"""Reader of the nerfstudio layout: one `transforms.json`, with intrinsics for all frames or per frame.

::

    <folder>/<scene>/transforms.json
                     images/frame_00001.png ...   or images/<camera>/..., one folder per camera; RGBA on `background`
                     caption.txt                  optional

`<folder>` may also be one such scene itself. `transform_matrix` is c2w (4, 4) with OpenGL axes, world +z up, in any
scale. `fl_x`, `fl_y`, `cx`, `cy` are in pixels of a `w` x `h` image, pixel centres at +0.5; `camera_angle_x` is used if
there is no `fl_x`. The distortion `k1`, `k2`, `p1`, `p2`, `k3` (or `distortion_params`: k1, k2, k3, k4, p1, p2) is
corrected; fisheye, 360-degree and rolling-shutter cameras are rejected. The poses already include `applied_transform`,
`applied_scale` and similar keys. A frame's `time` has any unit. Without it, names are used: equal names in several
folders, or equal numbers, are one instant. The frames of one folder are one moving camera, or several if some share a
`time`. There is no clock. `train_filenames`, `val_filenames` and `test_filenames`, if given, define the split; if
`train_filenames` is given, frames in none of them are left out.
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
    """One scene per folder with `transforms.json`."""
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
    """Picture => its split (test wins over val, val over train); raises `InputError` for a name without a frame."""
    names, splits = {shot.name for shot in shots}, {}
    for split in ("train", "val", "test"):
        key = f"{split}_filenames"
        for listed in getattr(transforms, key) or []:
            if (name := canonical(listed)) not in names:
                raise InputError(f"{path}: {key}: {listed[:200]!r}: expected the file_path of a frame, found no such")
            splits[name] = split
    return splits


FORMAT = Format(read_nerfstudio, marked_by(TRANSFORMS))
