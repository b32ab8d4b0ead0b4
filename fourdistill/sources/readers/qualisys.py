"""Reader of Qualisys calibrations (`*.qca.txt`, with XML inside), as in Pose2Sim's demo captures.

::

    <folder>/<scene>/calibration/Calib.qca.txt   one <camera serial="cam01"> per video, in any order
                     videos/cam01.mp4 ...        named after the serials
                     sync.csv                    optional: camera, offset_s; seconds to add to a camera's times
                     caption.txt                 optional

`<folder>` may also be one such scene itself, and the two subfolders may be omitted. `transform` contains the rotation
from world to camera (OpenGL axes) and the centre in millimetres; it is converted to OpenCV c2w in metres. `intrinsic`
is in 1/64 pixel, with the integer pixel (0, 0) centred on the origin, hence the +0.5. The distortion coefficients are
(k1, k2, p1, p2) on normalised points, without scaling: a checkerboard fit of the demo's own calibration images gives
k1 = -0.05 to -0.06, and the file has -0.047 (Pose2Sim divides these by 64 as well). Skew and a third radial
coefficient are rejected. Cameras without a video (marker cameras, cameras that were off) are skipped and counted; a
video without a calibrated camera is bad. `viewrotation`, which only rotates the view on screen, is not applied: films
have the orientation of the sensor. Times are the containers' presentation times; there is no split.
"""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from fourdistill.errors import InputError, one_line
from fourdistill.geometry.camera import intrinsics
from fourdistill.geometry.poses import qualisys_to_opencv
from fourdistill.scene import Camera, LeftOut, Scene, Video
from fourdistill.sources.formats import Format
from fourdistill.sources.names import canonical
from fourdistill.sources.readers.listing import (
    VIDEO_SUFFIXES,
    list_videos,
    marked_by,
    read_caption,
    read_offsets,
    read_scenes,
    visible,
)
from fourdistill.sources.readers.parsing import check_lens, check_pose, check_size, read_text
from fourdistill.sources.readers.pieces import Pieces

SUBPIXELS = 64  # Qualisys counts 1/64 pixel
_INTRINSIC = ("focalLengthU", "focalLengthV", "centerPointU", "centerPointV", "skew")
_DISTORTION = ("radialDistortion1", "radialDistortion2", "tangentalDistortion1", "tangentalDistortion2")
_K3 = "radialDistortion3"
_ROTATION = ("r11", "r12", "r13", "r21", "r22", "r23", "r31", "r32", "r33")
_FIELD_OF_VIEW = ("left", "top", "right", "bottom")


def read_qualisys(folder: Path) -> list[Scene]:
    """One scene per folder with a `*.qca.txt` and videos named after its cameras."""
    is_scene = (folder / "calibration").is_dir() or bool(_calibrations(folder))
    return read_scenes(folder, is_scene, VIDEO_SUFFIXES, _read_scene)


def _read_scene(folder: Path) -> Scene:
    found = [*_calibrations(folder), *_calibrations(folder / "calibration")]
    if len(found) != 1:
        raise InputError(f"{folder}: expected one calibration/*.qca.txt, found {len(found)}")
    (calibration,) = found
    elements = _read_elements(calibration)
    videos_folder = folder / "videos" if (folder / "videos").is_dir() else folder
    paths = list_videos(videos_folder)
    offsets = read_offsets(folder, [path.stem for path in paths])
    videos: list[Video] = []
    pieces, turned = Pieces(), []
    for path in paths:
        with pieces.reading(path):
            element = elements.pop(canonical(path.stem), None)
            if element is None:
                raise InputError(f"{calibration}: camera serial: expected {path.stem}, as {path.name} is named")
            videos.append(Video(path.stem, path, _read_camera(calibration, path.stem, element), offsets[path.stem]))
            turned += [path.stem] * (element.get("viewrotation", "0") != "0")
    bad = pieces.bad()
    if not videos:
        serials = ", ".join(elements)[:200]
        raise InputError(f"{calibration}: expected videos in {videos_folder}, named {serials}, found none")
    return Scene(
        folder.name,
        tuple(videos),
        read_caption(folder / "caption.txt"),
        pose_source=calibration.name,
        warnings=tuple(f"{name}: viewrotation is not applied: films are taken as the sensor stands" for name in turned),
        bad=bad,
        left_out=(LeftOut("calibrated camera without a film", len(elements), min(elements)),) if elements else (),
    )


def _calibrations(folder: Path) -> list[Path]:
    return [path for path in visible(folder) if path.name.endswith(".qca.txt")] if folder.is_dir() else []


def _read_elements(path: Path) -> dict[str, ElementTree.Element]:
    """Serial => the XML element of that camera."""
    text = read_text(path, "a Qualisys calibration")
    # A calibration needs no document type, and entities can make a small XML file expand without bound.
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError(f"{path}: expected a Qualisys calibration without a document type definition")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InputError(f"{path}: expected a Qualisys calibration in XML: {one_line(error, 200)}") from error
    elements: dict[str, ElementTree.Element] = {}
    for element in root.iterfind("cameras/camera"):
        serial = canonical(element.get("serial") or "")
        if serial == "." or serial in elements:
            raise InputError(f"{path}: camera serial: expected unique names, found {element.get('serial')!r}")
        elements[serial] = element
    if not elements:
        raise InputError(f"{path}: expected <cameras><camera ...>, found no camera")
    return elements


def _read_camera(path: Path, serial: str, element: ElementTree.Element) -> Camera:
    if element.get("calibrated", "true").lower() in ("false", "0"):
        raise InputError(f"{path}: camera {serial}: calibrated: expected true, found false")
    left, top, right, bottom = _numbers(path, serial, element, "fov_video", _FIELD_OF_VIEW)
    fx, fy, cx, cy, skew = _numbers(path, serial, element, "intrinsic", _INTRINSIC) / SUBPIXELS
    distortion = _numbers(path, serial, element, "intrinsic", _DISTORTION)
    if skew or _numbers(path, serial, element, "intrinsic", (_K3,))[0]:
        raise InputError(f"{path}: camera {serial}: skew and {_K3}: expected 0, which is all that is undone here")
    rotation = _numbers(path, serial, element, "transform", _ROTATION).reshape(3, 3)
    c2w = qualisys_to_opencv(rotation, _numbers(path, serial, element, "transform", ("x", "y", "z")))
    check_pose(c2w, f"{path}: camera {serial}: transform")
    where = f"{path}: camera {serial}"
    # The field of view is given by its first and last pixel, both included.
    size = check_size((round(right - left) + 1, round(bottom - top) + 1), f"{where}: fov_video")
    K = check_lens(intrinsics(fx, fy, cx - left + 0.5, cy - top + 0.5), f"{where}: intrinsic")
    return Camera(K, size, c2w, tuple(distortion.tolist()) if any(distortion) else None)


def _numbers(path: Path, serial: str, element: ElementTree.Element, tag: str, names: tuple[str, ...]) -> np.ndarray:
    """Attributes of a camera's child element as float64 (len(names),)."""
    child = element.find(tag)
    texts = [None if child is None else child.get(name) for name in names]
    try:
        numbers = np.array([float(text) for text in texts if text is not None])
    except ValueError as error:
        raise InputError(f"{path}: camera {serial}: {tag}: expected numbers: {one_line(error, 200)}") from error
    if len(numbers) != len(names) or not np.isfinite(numbers).all():
        raise InputError(f"{path}: camera {serial}: <{tag}>: expected finite numbers {', '.join(names)}")
    return numbers


FORMAT = Format(read_qualisys, marked_by("*.qca.txt", "calibration/*.qca.txt"))
