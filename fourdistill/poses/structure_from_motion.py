"""Camera poses from images of a static, textured scene, by COLMAP (Schoenberger & Frahm 2016), extra `colmap`.

A camera is a pinhole without distortion. Known intrinsics are held fixed; unknown ones are estimated. One camera takes
all images, or several take them. Every pair of images is matched. Of several partial reconstructions the one with the
most images is used; the other images are unregistered. If the scene has too little texture, nothing is registered; this
is a result, not an error.
"""

import tempfile
import zlib  # noqa: F401  # before pycolmap: 4.1 to 4.2 corrupt the heap if zlib is loaded later
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from fourdistill.errors import InputError

MIN_PICTURES = 3  # in a reconstruction; two images give no relative distances to compare


@dataclass(frozen=True)
class Reconstruction:
    """The cameras of N images."""

    c2w: np.ndarray
    """Camera-to-world (N, 4, 4), OpenCV axes, of any scale and origin; NaN for unregistered images."""
    K: np.ndarray
    """Intrinsics (N, 3, 3) in pixels; NaN for unregistered images."""
    reprojection_error: float
    """Mean over all points, in pixels; NaN if nothing was registered."""

    @property
    def registered(self) -> np.ndarray:
        """Which images have a pose (N,) bool."""
        return np.asarray(np.isfinite(self.c2w).all(axis=(1, 2)))


def reconstruct(
    images: Sequence[Image.Image],
    K: ArrayLike | None = None,
    *,
    cameras: Sequence[int] | None = None,
    seed: int = 0,
) -> Reconstruction:
    """Pose N images by structure from motion.

    A given `K` (3, 3) in pixels is held fixed. `cameras` (N,) is the camera of each image; None: one camera. Raises
    `InputError` if pycolmap is not installed, `ValueError` if one camera's images differ in size.
    """
    cameras = [0] * len(images) if cameras is None else cameras
    if len({(camera, image.size) for camera, image in zip(cameras, images, strict=True)}) > len(set(cameras)):
        raise ValueError("images: expected one size")
    known_K = None if K is None else np.asarray(K, np.float64)
    found = _run(images, cameras, known_K, seed) if len(images) > 1 else None
    c2w, all_K = np.full((len(images), 4, 4), np.nan), np.full((len(images), 3, 3), np.nan)
    if found is None:
        return Reconstruction(c2w, all_K, float("nan"))
    for image in found.images.values():
        if image.has_pose:
            w2c = np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]])
            number = int(Path(image.name).stem)
            c2w[number] = np.linalg.inv(w2c)
            all_K[number] = found.cameras[image.camera_id].calibration_matrix()
    return Reconstruction(c2w, all_K, float(found.compute_mean_reprojection_error()))


def _run(images: Sequence[Image.Image], cameras: Sequence[int], K: np.ndarray | None, seed: int) -> Any | None:
    """The largest `pycolmap.Reconstruction`, or None; bit for bit the same in every run."""
    pycolmap = import_pycolmap()
    pycolmap.set_random_seed(seed)
    device = pycolmap.Device.cpu
    reader = pycolmap.ImageReaderOptions(camera_model="SIMPLE_PINHOLE")
    if K is not None:
        reader.camera_model = "PINHOLE"
        reader.camera_params = ",".join(str(value) for value in (K[0, 0], K[1, 1], K[0, 2], K[1, 2]))
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = seed  # else a thread's draws depend on the pairs that it verified before
    options = pycolmap.IncrementalPipelineOptions(
        min_model_size=MIN_PICTURES, ba_refine_focal_length=K is None, extract_colors=False,
        random_seed=seed, num_threads=1,  # several threads sum large problems in varying order
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        database, pictures, sparse = (Path(folder, name) for name in ("database.db", "pictures", "sparse"))
        pictures.mkdir()
        sparse.mkdir()
        for number, (camera, image) in enumerate(zip(cameras, images, strict=True)):
            taken_by = pictures / f"{camera:03d}"
            taken_by.mkdir(exist_ok=True)
            image.convert("RGB").save(taken_by / f"{number:05d}.png")
        pycolmap.Database.open(database).close()
        folders = pycolmap.CameraMode.PER_FOLDER
        # Import images first: extraction would number them in the order in which its threads finish.
        pycolmap.import_images(database, pictures, camera_mode=folders, options=reader)
        pycolmap.extract_features(
            database, pictures, camera_mode=folders, reader_options=reader,
            extraction_options=pycolmap.FeatureExtractionOptions(use_gpu=False), device=device,
        )  # fmt: skip
        matching = pycolmap.FeatureMatchingOptions(use_gpu=False)
        pycolmap.match_exhaustive(database, matching_options=matching, verification_options=verification, device=device)
        models: dict[int, Any] = pycolmap.incremental_mapping(database, pictures, sparse, options=options)
    return max(models.values(), key=lambda model: model.num_reg_images()) if models else None


def import_pycolmap() -> Any:
    """The module, set to log only errors; raises `InputError` if it is not installed."""
    try:
        import pycolmap  # pyright: ignore[reportMissingImports]  # the extra `colmap`
    except ModuleNotFoundError as error:
        raise InputError("structure from motion: expected pycolmap: pip install 'fourdistill[colmap]'") from error
    pycolmap.logging.minloglevel = pycolmap.logging.ERROR.value  # the result shows which images are unregistered
    return pycolmap
