"""One scene of the stage `reconstruct`: fit, gate, new frames and pictures, in a folder that a later run finds again.

The folder's name contains a digest of all that the result depends on, so that a run that resumes with other settings
or other frames starts anew.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from fourdistill.animation import save_gif
from fourdistill.errors import InputError
from fourdistill.geometry.poses import Array
from fourdistill.geometry.scene_frame import SceneFrame
from fourdistill.storage.files import new_folder
from fourdistill.storage.store import Store
from fourdistill.tables import TEACHER, TEACHER_FRAMES, fixed_lists, write_table
from fourdistill.teacher.fit import fit_reconstruction
from fourdistill.teacher.gate import HeldOutScore, confidence, judge, score_camera, score_nearest, to_source
from fourdistill.teacher.new_cameras import best_surrounded, draw_cameras
from fourdistill.teacher.reconstruction import Reconstruction
from fourdistill.teacher.scene_images import SceneImages, camera_grid, read_pictures, scene_images
from fourdistill.teacher.settings import Reconstruct
from fourdistill.teacher.show import FILM_RATE, draw_film, draw_sheet, to_picture
from fourdistill.teacher.splats.fit_splats import fit_splats
from fourdistill.teacher.splats.rasterizer import gsplat_rasterizer
from fourdistill.teacher.splats.splat_teacher import SplatTeacher
from fourdistill.teacher.teacher import Teacher

FACTS, ROWS, SHEET, FILM, MODEL = "facts.json", "frames.parquet", "sheet.png", "film.gif", "model.safetensors"
"""Files of a folder of results; those after the first may be absent."""
_SUFFIXES = {".json", ".parquet", ".png", ".gif", ".jpg", ".safetensors"}


@dataclass(frozen=True)
class SceneTask:
    """The training frames of a scene, as rows of the frames table, and its coordinate frame."""

    name: str
    rows: pa.Table
    frame: SceneFrame | None


@dataclass(frozen=True)
class Lesson:
    """What came of a scene: its row of the report, and its folder of results, if there is one."""

    facts: dict[str, Any]
    folder: Path | None


def teach_scene(frames: Store, work: Path, settings: Reconstruct, seed: int, task: SceneTask) -> Lesson:
    """Make the frames of new cameras of a scene, or find out why it cannot teach; resumes what was interrupted."""
    try:
        if task.frame is None:
            raise InputError("c2w: expected cameras that look at one place, found none or parallel ones")
        pictures = read_pictures(frames, task.rows)
        folder = work / f"{task.name}-{_digest(task, pictures, settings, seed)}"
        done = folder / "done"
        if not done.exists():
            with _one_thread():
                _teach(scene_images(task.rows, pictures, task.frame), task, settings, seed, folder, done)
        return Lesson(json.loads((done / FACTS).read_text(encoding="utf-8")), done)
    except InputError as error:
        return Lesson({"scene": task.name, "outcome": "failed", "reason": str(error)}, None)


def _digest(task: SceneTask, pictures: list[bytes], settings: Reconstruct, seed: int) -> str:
    decisive = replace(settings, enabled=True, engine="loky", jobs=1)  # others may change between two runs
    digest = hashlib.sha256(repr((decisive, seed, task.frame, task.rows.to_pylist())).encode())
    for picture in pictures:
        digest.update(picture)
    return digest.hexdigest()[:16]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums over several threads are rounded differently, and scenes fill the cores already."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _teach(scene: SceneImages, task: SceneTask, settings: Reconstruct, seed: int, folder: Path, done: Path) -> None:
    """Write the folder of results."""
    facts: dict[str, Any] = {"scene": task.name, "outcome": "refused", "cameras": len(scene.cameras)}
    if len(scene.cameras) < settings.gate.min_cameras:
        number = len(scene.cameras)
        facts["reason"] = f"{number} camera{'s' if number > 1 else ''}, below {settings.gate.min_cameras}"
        with new_folder(done, _SUFFIXES) as partial:
            _write_facts(partial, facts)
        return
    camera = best_surrounded(scene)
    checkpoint = folder / "fit.safetensors"
    teacher = _fit(scene.without([camera]), settings, seed, checkpoint)
    score = score_camera(teacher, teacher.backdrop, scene, camera)
    nearest = score_nearest(teacher.backdrop, scene, camera)
    verdict = judge(score, nearest, settings.gate)
    facts |= {"reason": verdict.reason, "held_out": camera, "teacher": _db(score), "nearest_camera": _db(nearest)}
    with new_folder(done, _SUFFIXES) as partial:
        draw_sheet(teacher, scene, camera).save(partial / SHEET)
        save_gif(partial / FILM, draw_film(teacher, scene), FILM_RATE)
        teacher.save(partial / MODEL)
        if verdict.may_teach:
            trust = confidence(score, settings.gate)
            rows = _render_frames(teacher, scene, task, settings, seed, trust, partial)
            facts |= {"outcome": "teaches", "confidence": round(trust, 3), "frames": rows.num_rows}
            write_table(rows, partial / ROWS)
        _write_facts(partial, facts)
    checkpoint.unlink()


def _fit(scene: SceneImages, settings: Reconstruct, seed: int, checkpoint: Path) -> Reconstruction | SplatTeacher:
    """Fit the representation that is asked for."""
    given: dict[str, Any] = {"floor": settings.floor, "checkpoint": checkpoint, "quiet": True}
    if settings.representation == "gsplat":
        return fit_splats(scene, settings.splats, seed, gsplat_rasterizer(), **given)
    return fit_reconstruction(scene, settings.fit, seed, **given)


def _db(score: HeldOutScore) -> dict[str, float | None]:
    return {name: round(value, 2) if math.isfinite(value) else None for name, value in vars(score).items()}


def _write_facts(folder: Path, facts: dict[str, Any]) -> None:
    (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")


def _render_frames(
    teacher: Teacher,
    scene: SceneImages,
    task: SceneTask,
    settings: Reconstruct,
    seed: int,
    trust: float,
    folder: Path,
) -> pa.Table:
    """Write the frames of new cameras at all instants to `folder/<camera>/`; return their rows."""
    real, grid = camera_grid(task.rows)
    instants = task.rows.take(pa.array(grid[0]))
    numbers = instants["frame_index"].to_pylist()
    rows = []
    # By name, so that a scene's cameras do not depend on which other scenes there are.
    rng = np.random.default_rng([seed, *task.name.encode()])
    for number, camera in enumerate(draw_cameras(scene, settings.num_cameras, rng)):
        name = f"{TEACHER}{number:02d}"
        if name in real:
            raise InputError(f"camera: expected another name than {name}, which is a new camera's")
        K, c2w = camera.K(scene), np.stack([to_source(scene, pose) for pose in camera.c2w(scene)])
        (folder / name).mkdir()
        for index, time in enumerate(scene.times):
            picture = to_picture(teacher.render(c2w[index], K[index], float(time)).image)
            path = folder / name / f"{numbers[index]:06d}.jpg"
            picture.save(path, quality=settings.jpeg_quality, subsampling=0)
        rows.append(_rows(instants, task.name, name, K, c2w, trust))
    return pa.concat_tables(rows)


def _rows(instants: pa.Table, scene: str, camera: str, K: Array, c2w: Array, trust: float) -> pa.Table:
    """Rows of a real camera => those of a new camera at the same instants."""
    columns = {name: instants[name] for name in instants.column_names}
    columns |= {
        "camera": pa.repeat(camera, len(instants)),
        "path": pa.array([f"{scene}/{camera}/{number:06d}.jpg" for number in instants["frame_index"].to_pylist()]),
        "K": fixed_lists(K.reshape(len(K), 9), pa.float64()),
        "c2w": fixed_lists(c2w.reshape(len(c2w), 16), pa.float64()),
        "origin": pa.repeat(TEACHER, len(instants)),
        "confidence": pa.array(np.full(len(instants), trust, np.float32)),
    }
    return pa.table([columns[name] for name in TEACHER_FRAMES.names], schema=TEACHER_FRAMES)
