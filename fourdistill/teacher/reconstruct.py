"""Reconstruct scenes and render the frames of new cameras: JPEGs, one table of them, and a report on every scene."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fourdistill.frames.scenes_table import read_scenes
from fourdistill.storage.fanout import fan_out
from fourdistill.storage.files import new_folder
from fourdistill.storage.store import Store, new_set, open_set
from fourdistill.tables import FORMAT_VERSION, FRAMES, TEACHER_FRAMES, read_table, write_table
from fourdistill.teacher.settings import Reconstruct

if TYPE_CHECKING:
    from fourdistill.teacher.teach import Lesson

SCORES = "scores.json"
_OF_SCENE = {".png", ".gif", ".safetensors"}
"""Suffixes of a scene's files in the folder of reports."""


def reconstruct(
    frames_dir: Path | str,
    frames_table: Path,
    scenes_table: Path,
    out: Path | str,
    table_path: Path,
    reports: Path,
    settings: Reconstruct,
    *,
    seed: int,
    index_copy: Path | None = None,
) -> dict[str, Any]:
    """Write `out/<scene>/<camera>/000000.jpg ...`, their table and a folder of reports; return the report.

    Only training frames are read, and the new frames are training frames. A scene that does not pass the gate, or
    cannot be read, has no new frames, and the report says why. What a killed run has finished is kept in a hidden
    folder beside the table, until all is written. If the stage is off, nothing is read, and the outputs are empty.
    """
    work = table_path.with_name(f".{table_path.stem}.work")
    lessons = _teach_all(frames_dir, frames_table, scenes_table, work, settings, seed) if settings.enabled else []
    report = {"enabled": settings.enabled, **_count(lessons), "scenes": [lesson.facts for lesson in lessons]}
    with new_set(out, {".jpg"}, depth=2, index_copy=index_copy) as store:
        written = [folder for lesson in lessons for folder in _copy_frames(lesson, store)]
        table_path.unlink(missing_ok=True)
        if store.is_remote:
            store.write_index({"version": FORMAT_VERSION, "frames": written})
    _write_reports(reports, lessons, report)
    write_table(_table_of(lessons), table_path)
    shutil.rmtree(work, ignore_errors=True)
    return report


def _teach_all(
    frames_dir: Path | str, frames_table: Path, scenes_table: Path, work: Path, settings: Reconstruct, seed: int
) -> "list[Lesson]":
    # Not at the top: it loads torch, which takes seconds, and the stage may be off.
    from fourdistill.teacher.splats.rasterizer import gsplat_rasterizer
    from fourdistill.teacher.teach import SceneTask, teach_scene

    if settings.representation == "gsplat":
        gsplat_rasterizer()  # refuse here, before any scene is read
        if settings.engine == "loky" and settings.jobs == -1:
            settings = replace(settings, jobs=1)  # all worker processes would share one GPU
    frames, scenes = open_set(frames_dir, "extract_frames"), read_scenes(scenes_table)
    rows_of = _training_rows(read_table(frames_table, FRAMES))
    return fan_out(
        partial(teach_scene, frames, work, settings, seed),
        [SceneTask(name, rows, scenes.get(name)) for name, rows in rows_of],
        engine=settings.engine,
        jobs=settings.jobs,
        description="reconstruct",
    )


def _training_rows(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Every scene that has training frames, with their rows."""
    table = table.filter(np.asarray(table["split"]) == "train")
    names = np.asarray(table["scene"])
    for name in np.unique(names):
        yield str(name), table.filter(names == name)


def _count(lessons: "list[Lesson]") -> dict[str, int]:
    found = Counter(lesson.facts["outcome"] for lesson in lessons)
    frames = sum(lesson.facts.get("frames", 0) for lesson in lessons)
    return {**{outcome: found[outcome] for outcome in ("teaches", "refused", "failed")}, "frames": frames}


def _copy_frames(lesson: "Lesson", store: Store) -> Iterator[str]:
    """Copy the frames of each new camera of a scene; yield the names of the folders."""
    folders = [] if lesson.folder is None else sorted(path for path in lesson.folder.iterdir() if path.is_dir())
    for folder in folders:
        name = f"{lesson.facts['scene']}/{folder.name}"
        with store.folder(name, {".jpg"}) as copy:
            for path in sorted(folder.iterdir()):
                shutil.copyfile(path, copy / path.name)
        yield name


def _table_of(lessons: "list[Lesson]") -> pa.Table:
    paths = [lesson.folder / "frames.parquet" for lesson in lessons if lesson.folder is not None]
    tables = [read_table(path, TEACHER_FRAMES) for path in paths if path.exists()]
    return pa.concat_tables([TEACHER_FRAMES.empty_table(), *tables]).combine_chunks()


def _write_reports(folder: Path, lessons: "list[Lesson]", report: dict[str, Any]) -> None:
    """The scores, and of every scene that was fitted the reconstruction, a sheet and a film."""
    with new_folder(folder, {".json", *_OF_SCENE}) as new:
        for lesson in lessons:
            for path in [] if lesson.folder is None else lesson.folder.iterdir():
                if path.suffix in _OF_SCENE:
                    shutil.copyfile(path, new / f"{lesson.facts['scene']}.{path.name}")
        (new / SCORES).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
