"""Decide whether a scene may teach, by how well its teacher renders a held-out camera."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fourdistill.errors import InputError
from fourdistill.geometry.poses import compose
from fourdistill.teacher.backdrop import Backdrop
from fourdistill.teacher.masks import bounding_box, foreground_mask
from fourdistill.teacher.scene_images import SceneImages
from fourdistill.teacher.settings import Gate
from fourdistill.teacher.teacher import Teacher


@dataclass(frozen=True)
class HeldOutScore:
    """Mean PSNR in dB over the frames of a camera, for the whole picture and for the box of the foreground."""

    picture: float
    box: float


@dataclass(frozen=True)
class Verdict:
    """Whether a scene may teach, and the reason as a clause."""

    may_teach: bool
    reason: str


def judge(teacher: HeldOutScore, nearest: HeldOutScore, gate: Gate) -> Verdict:
    """Compare the teacher's score, and its gain over the nearest camera's frames, with the bounds of the gate."""
    gain = teacher.box - nearest.box
    if not teacher.box >= gate.least_box:  # also true for NaN: no foreground in that camera
        found = f"{teacher.box:.1f} dB over the figure's box of a held-out camera"
        return Verdict(False, f"{found}, below {gate.least_box:.1f}")
    if gain < gate.least_gain:
        return Verdict(False, f"{gain:.1f} dB above the nearest camera's own frames, below {gate.least_gain:.1f}")
    return Verdict(True, f"{teacher.box:.1f} dB over the figure's box, {gain:.1f} above the nearest camera's frames")


def confidence(score: HeldOutScore, gate: Gate) -> float:
    """The weight of a teacher's frames in a loss, in (0, 1]: 0.5 at the bound, 1 for perfect frames.

    It is proportional to 1 / (b + e), with e the squared error in the held-out camera and b that at the bound: the
    inverse variance of a target with this error, if real targets have the variance b.
    """
    return 1 / (1 + 10 ** ((gate.least_box - score.box) / 10))


def score_camera(teacher: Teacher, backdrop: Backdrop, scene: SceneImages, camera: str) -> HeldOutScore:
    """Render every frame of a camera of the whole scene and compare; `backdrop` separates the foreground."""
    index = _index(scene, camera)
    frames = [
        teacher.render(to_source(scene, scene.c2w[index, n]), scene.K[index, n], float(time)).image
        for n, time in enumerate(scene.times)
    ]
    return _score(np.stack(frames), backdrop, scene, index)


def score_nearest(backdrop: Backdrop, scene: SceneImages, camera: str) -> HeldOutScore:
    """The same for the frames of the camera with the nearest optical axis."""
    index = _index(scene, camera)
    alike = np.einsum("cni,ni->c", scene.c2w[..., :3, 2], scene.c2w[index, :, :3, 2])
    alike[index] = -np.inf
    return _score(scene.images[int(np.argmax(alike))], backdrop, scene, index)


def to_source(scene: SceneImages, c2w: NDArray[np.float64]) -> NDArray[np.float64]:
    """A pose (4, 4) in the scene's frame => the pose in the source's units, for `Teacher.render`."""
    frame = scene.frame
    return compose(frame.axes.T @ c2w[:3, :3], frame.axes.T @ c2w[:3, 3] * frame.scale + frame.center)


def psnr(error: NDArray[np.floating]) -> float:
    """Differences in [-1, 1] => peak signal-to-noise ratio in dB, at most 100."""
    return float(-10 * np.log10(max(float(np.square(error).mean()), 1e-10)))


def _index(scene: SceneImages, camera: str) -> int:
    if camera not in scene.cameras or len(scene.cameras) < 2:
        raise InputError(f"camera: expected one of several, {', '.join(scene.cameras)}, found {camera}")
    return scene.cameras.index(camera)


def _score(frames: NDArray[np.float32], backdrop: Backdrop, scene: SceneImages, index: int) -> HeldOutScore:
    pictures, boxes = [], []
    for n, time in enumerate(scene.times):
        truth = scene.images[index, n]
        background = backdrop.view(scene.K[index, n], scene.c2w[index, n], float(time), scene.size)
        box = bounding_box(foreground_mask(truth, background))
        error = frames[n] - truth
        pictures.append(psnr(error))
        if box.any():
            boxes.append(psnr(error[box]))
    return HeldOutScore(float(np.mean(pictures)), float(np.mean(boxes)) if boxes else float("nan"))
