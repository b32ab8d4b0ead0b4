"""Write, read and score a folder of generated images and their commands, from this system or any other.

    <folder>/commands.csv   one row per image
    <folder>/0000.png ...   the images, of any size and of any format that `fourdistill.pictures` reads

`commands.csv` has the columns `file`, `scene`, `source_camera`, `source_frame` (the condition), `target_camera`,
`target_frame` (the frame that a perfect system would return) and `sweep`. Rows with the same sweep form one sequence,
in order; control is measured on them. Rows without a sweep are single pairs; their image quality is measured. Cameras
and frames are those of a frames table. Further columns are ignored.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from fourdistill.errors import InputError
from fourdistill.evaluation.metrics.retrieval import read_grids
from fourdistill.evaluation.protocol.command import Command, FrameKey
from fourdistill.evaluation.protocol.sweeps import Sweep
from fourdistill.evaluation.report.sheets import told_columns, write_csv
from fourdistill.evaluation.scoring import Scored, Scorer, Task
from fourdistill.evaluation.systems.side_by_side import COPY, MODEL, VAE
from fourdistill.geometry.displacement import Displacement
from fourdistill.pictures import PictureError, read_picture
from fourdistill.tables import FRAMES, read_table

COMMANDS = "commands.csv"
COLUMNS = ("file", "scene", "source_camera", "source_frame", "target_camera", "target_frame", "sweep")


def write_generated(folder: Path, task: Task, images: Sequence[Image.Image], seeds: Sequence[int]) -> None:
    """Write the images of a task and their `commands.csv`, which includes each displacement and seed."""
    folder.mkdir()
    names = [""] * len(task.pairs) + [sweep.name for sweep in task.sweeps for _ in sweep.commands]
    rows = []
    for number, (command, image, sweep, seed) in enumerate(zip(task.commands, images, names, seeds, strict=True)):
        file = f"{number:04d}.png"
        image.save(folder / file, format="PNG")
        source, target = command.source, command.target
        fixed = (file, source.scene, source.camera, source.frame, target.camera, target.frame, sweep)
        more = {"prompt": command.caption, "seed": seed}
        rows.append(dict(zip(COLUMNS, fixed, strict=True)) | {"kind": command.kind} | told_columns(command) | more)
    write_csv(folder / COMMANDS, rows)


def score_folder(folder: Path, score: Scorer, max_gap_s: float | None) -> Scored:
    """Score the images in a folder, together with the copy baseline and the VAE ceiling.

    `max_gap_s`: seconds that a time of 1 stands for, as in the pairs; None: the whole scene. Raises `InputError` if the
    folder, a row or an image does not match the format described in this module.
    """
    task, files = read_folder(folder, score.frames_table, score.scenes_table, max_gap_s)
    if not task.sweeps:
        raise InputError(f"{folder / COMMANDS}: sweep: expected a name in some rows, found none")
    pictures = {
        MODEL: [score.read.fit(read_answer(folder / file)) for file in files],
        COPY: [score.read(command.source) for command in task.commands],
        VAE: score.spaces.reconstruct([score.read(command.target) for command in task.commands]),
    }
    return score(task, pictures)


def read_answer(path: Path) -> Image.Image:
    """Read a generated image as RGB, like any user image; raises `InputError` naming it if it cannot be read."""
    try:
        return read_picture(path)
    except PictureError as error:
        raise InputError(f"{path}: {error}") from error


def read_folder(
    folder: Path, frames_table: Path, scenes_table: Path, max_gap_s: float | None
) -> tuple[Task, list[str]]:
    """The task of a folder, and the file names of its images in the task's order."""
    path = folder / COMMANDS
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: expected a table of commands in CSV: {error}") from error
    for name in COLUMNS:
        if name not in columns:
            raise InputError(f"{path}: {name}: expected this column, found {', '.join(columns) or 'none'}")
    for number, row in enumerate(rows, start=2):
        row["where"] = f"{path}: line {number}"
        check_file(row["file"], folder, row["where"])
    read = CommandReader(frames_table, scenes_table, max_gap_s)
    for row in rows:
        read.check_scene(row)
    pairs = [row for row in rows if not row["sweep"]]
    sweeps: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        if row["sweep"]:
            sweeps.setdefault(row["sweep"], []).append(row)
    task = Task(
        [read(row, kind_of(row) or "time") for row in pairs],
        [Sweep(name, [read(row, sweep_kind(members)) for row in members]) for name, members in sweeps.items()],
    )
    return task, [row["file"] for row in [*pairs, *(row for members in sweeps.values() for row in members)]]


def kind_of(row: dict[str, str]) -> str | None:
    """The kind of a row: time, view or joint; None if the target is the source."""
    same_camera = row["source_camera"] == row["target_camera"]
    same_instant = frame_number(row, "source") == frame_number(row, "target")
    return (None if same_instant else "time") if same_camera else "view" if same_instant else "joint"


def sweep_kind(rows: Sequence[dict[str, str]]) -> str:
    """The kind of a sweep, which has one source; rows whose target is the source fit any kind."""
    where = f"{rows[0]['where']}: sweep: expected all rows of {rows[0]['sweep']}"
    if len({(row["scene"], row["source_camera"], frame_number(row, "source")) for row in rows}) > 1:
        raise InputError(f"{where} to have one scene and one source, found several")
    kinds = {kind for row in rows if (kind := kind_of(row))}
    if not kinds:
        raise InputError(f"{where} to change time or view somewhere, found none that does")
    if len(kinds) > 1:
        raise InputError(f"{where} to change time, view or both alike, found {', '.join(sorted(kinds))}")
    return kinds.pop()


def check_file(name: str, folder: Path, where: str) -> None:
    """Raise `InputError` unless `name` is the plain name of a file in the folder; paths in tables are not trusted."""
    if not name or Path(name).name != name or "\\" in name:
        raise InputError(f"{where}: file: expected the plain name of a picture in {folder}, found {name!r}")
    try:
        found = (folder / name).is_file()
    except OSError:  # a name too long for any file
        found = False
    if not found:
        raise InputError(f"{where}: file: expected {folder / name}, there is no such file")


class CommandReader:
    """Converts rows to commands, with displacements from the frames table."""

    def __init__(self, frames_table: Path, scenes_table: Path, max_gap_s: float | None):
        self._max_gap_s = max_gap_s
        self._grids = read_grids(frames_table, scenes_table)
        table = read_table(frames_table, FRAMES, ["scene", "split"]).to_pylist()
        self._known = {row["scene"] for row in table if row["split"] == "train"}

    def check_scene(self, row: dict[str, str]) -> None:
        """Raise `InputError` if a row's scene is not in the table."""
        if row["scene"] not in self._grids:
            raise InputError(f"{row['where']}: scene: expected one of the frames table, found {row['scene']!r}")

    def __call__(self, row: dict[str, str], kind: str) -> Command:
        """One row as a command of this kind; raises `InputError` naming the row and what the table lacks."""
        scene, where = row["scene"], row["where"]
        grid = self._grids[scene]
        keys = [FrameKey(scene, row[f"{side}_camera"], frame_number(row, side)) for side in ("source", "target")]
        try:
            source, target = (grid.index(key) for key in keys)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        displacement = Displacement.from_frames(
            grid.seen[source], grid.seen[target], kind != "view", kind != "time", self._max_gap_s
        )
        return Command(kind, keys[0], keys[1], displacement, caption=None, new_scene=scene not in self._known)


def frame_number(row: dict[str, str], side: str) -> int:
    """A row's frame index."""
    text = row[f"{side}_frame"] or ""
    if not text.isdecimal() or len(text) > 9:
        raise InputError(f"{row['where']}: {side}_frame: expected a frame index, found {text!r}")
    return int(text)
