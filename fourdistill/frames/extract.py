"""Extract frames from scenes: JPEGs of every film on the scene's common clock, one table of frames, and a report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import joblib

from fourdistill.errors import InputError
from fourdistill.frames.settings import ExtractFrames
from fourdistill.frames.splits import SplitRule
from fourdistill.frames.table import frames_tables
from fourdistill.scene import Film, LeftOut, Pictures, Scene
from fourdistill.sources.names import printable
from fourdistill.storage.fanout import fan_out
from fourdistill.storage.files import new_file
from fourdistill.storage.store import new_set
from fourdistill.tables import FORMAT_VERSION, write_table
from fourdistill.video.films import BadFile, ExtractedFilm, ProbedFilm, extract_film, probe_film
from fourdistill.video.jpegs import FramePlan, find_ffmpeg
from fourdistill.video.kept_frames import keep_frames


def extract_frames(
    scenes: Sequence[Scene],
    out: Path | str,
    table_path: Path,
    scenes_path: Path,
    report_path: Path,
    settings: ExtractFrames,
    *,
    index_copy: Path | None = None,
    left_out: Mapping[str, Sequence[LeftOut]] | None = None,
) -> dict[str, Any]:
    """Write `out/<scene>/<camera>/000000.jpg ...`, tables of frames and scenes, and a JSON report; return the report.

    `out` is a folder or an fsspec address; an address has an index, which is also written to `index_copy`. Bad files
    are skipped. The report lists them and what was `left_out` of each source. Existing frames are replaced as a
    whole. The frames table is written last, so that it never names missing frames. Raises `InputError` if more than
    `settings.max_bad_fraction` of the files are bad, and then leaves only the report. Also raises it for frames at an
    address without an index.
    """
    films = [(scene.name, film) for scene in scenes for film in scene.videos]
    if not films:
        raise InputError("extract_frames: expected at least one video, found none")
    split, workers = settings.split, {"engine": settings.engine, "jobs": settings.jobs}
    # Threads use only the cores that processes leave idle.
    threads = max(1, joblib.cpu_count() // min(joblib.effective_n_jobs(settings.jobs), len(films)))
    plan = FramePlan(settings.size, settings.jpeg_quality, find_ffmpeg(settings.ffmpeg), threads)
    with new_set(out, {".jpg"}, depth=2, index_copy=index_copy) as store:
        probed = fan_out(probe_film, films, **workers, description="probe")
        tasks, missing = keep_frames(
            scenes, [film for film in probed if isinstance(film, ProbedFilm)], settings.max_frames
        )
        work = partial(extract_film, store=store, plan=plan)
        results = fan_out(work, tasks, **workers, description="extract_frames")
        good = [result for result in results if isinstance(result, ExtractedFilm)]
        bad = [result for result in [*probed, *results] if isinstance(result, BadFile)]
        bad += [file for film in good for file in film.bad]
        rows = _bad_rows(scenes, bad)
        report = _write_report(report_path, good, rows, missing, split, left_out or {})
        num_lost = sum(piece.num_files for scene in scenes for piece in scene.bad)
        num_files = sum(_num_files(film) for _, film in films) + num_lost
        _check_bad(rows, _num_bad(bad) + num_lost, num_files, settings.max_bad_fraction, report_path)
        if not good:
            raise InputError(f"{report_path}: expected at least one good video, all {len(films)} are bad")
        table, scenes_table = frames_tables(scenes, good, settings.size, split)
        table_path.unlink(missing_ok=True)
        if store.is_remote:
            store.write_index({"version": FORMAT_VERSION, "frames": [film.written for film in good]})
    write_table(scenes_table, scenes_path)
    write_table(table, table_path)
    return report


def _bad_rows(scenes: Sequence[Scene], bad: Sequence[BadFile]) -> list[dict[str, Any]]:
    """One row per skipped item: first what the readers could not use, then files that could not be read."""
    return [
        {"scene": scene.name, "camera": None, "path": printable(str(piece.path)), "reason": piece.reason}
        for scene in scenes
        for piece in scene.bad
    ] + [
        {"scene": file.scene, "camera": file.film.camera_id, "path": str(file.path), "reason": file.reason}
        for file in bad
    ]


def _write_report(
    path: Path,
    good: list[ExtractedFilm],
    bad: list[dict[str, Any]],
    missing: list[tuple[ProbedFilm, int]],
    split: SplitRule,
    left_out: Mapping[str, Sequence[LeftOut]],
) -> dict[str, Any]:
    report: dict[str, Any] = {
        "scenes": len({film.scene for film in good}),
        "videos": len(good),
        "frames": sum(len(film.timestamps_s) for film in good),
        "split_names_not_found": split.unmatched({film.scene for film in good}, {film.film.camera_id for film in good}),
        "missing_frames": [{"scene": film.scene, "camera": film.film.camera_id, "instants": n} for film, n in missing],
        "notes": [
            {"scene": film.scene, "camera": film.film.camera_id, "notes": list(film.notes)}
            for film in good
            if film.notes
        ],
        "bad": bad,
        "left_out": [{"source": source, **asdict(row)} for source, rows in left_out.items() for row in rows],
    }
    with new_file(path) as partial_path:
        partial_path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def _num_files(film: Film) -> int:
    return len(film.pictures) if isinstance(film, Pictures) else 1


def _num_bad(bad: Sequence[BadFile]) -> int:
    """The number of bad files; a film of pictures that is bad as a whole counts all of them."""
    return sum(_num_files(file.film) if file.path == file.film.path else 1 for file in bad)


def _check_bad(
    rows: list[dict[str, Any]], num_bad: int, num_files: int, max_bad_fraction: float, report_path: Path
) -> None:
    if num_bad > max_bad_fraction * num_files:
        raise InputError(
            f"{rows[0]['path']}: {rows[0]['reason']} ({num_bad} of {num_files} files are bad, expected at most "
            f"{max_bad_fraction:.0%}; {report_path} lists them)"
        )
