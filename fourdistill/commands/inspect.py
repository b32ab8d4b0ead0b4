"""`fourdistill inspect`: what is in a folder of raw data."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from fourdistill.commands.outputs import check_out
from fourdistill.errors import InputError
from fourdistill.sources.formats import NAMES

if TYPE_CHECKING:
    from fourdistill.sources.inspect.facts import CameraFacts, FolderFacts

EXAMPLES = "`fourdistill inspect data/raw/mocap --figure mocap.png`"
MAX_DETAILED = 8  # scenes that are shown camera by camera
NO_SPLIT = "set by extract_frames.split"  # what the folder itself does not say


def run(
    path: Annotated[Path, typer.Argument(readable=False, help="Folder of raw data, as `sources` would name it.")],
    format_name: Annotated[
        str | None, typer.Option("--format", help=f"One of {NAMES}; by default what the files suggest.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the same as JSON.")] = False,
    figure: Annotated[
        Path | None,
        typer.Option(readable=False, help="Draw cameras and a contact sheet into this file (.png, .jpg ...)."),
    ] = None,
) -> None:
    """Say what is in a folder of raw data: scenes, cameras, frames, times, poses, splits, and what to mind.

    Exit status 2 where it cannot be read as the format, or nothing in it can be read.
    """
    check_out("--figure", figure)

    from fourdistill.sources.inspect.facts import find_format, inspect_folder
    from fourdistill.sources.readers import SourceFolder

    facts, scenes = inspect_folder(SourceFolder(path, format_name or find_format(path)))
    if figure:
        from fourdistill.sources.inspect.figure import draw_scenes  # Matplotlib

        draw_scenes(scenes, figure)
    if as_json:
        typer.echo(json.dumps(asdict(facts), indent=2))
    else:
        _print_facts(facts)
    if not any(camera.num_frames for scene in facts.scenes for camera in scene.cameras):
        raise InputError(f"{path}: expected something that can be read, found nothing")


def _print_facts(facts: "FolderFacts") -> None:
    """A row per camera, or per scene where there are many."""
    console = Console()
    console = console if console.is_terminal else Console(width=160)
    table = Table(
        title=f"format {facts.format}, {len(facts.scenes)} scene{'s' * (len(facts.scenes) > 1)}",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    for heading in ("scene", "camera", "frames", "fps", "start s", "duration s", "size", "poses", "focal px"):
        table.add_column(heading, no_wrap=True)
    for scene in facts.scenes:
        shown = scene.cameras if len(facts.scenes) <= MAX_DETAILED else scene.cameras[:1]
        for camera in shown:
            name = camera.name if shown is scene.cameras else f"{len(scene.cameras)} cameras"
            table.add_row(scene.name, name, *_cells(camera, scene.has_clock))
    console.print(table)
    for scene in facts.scenes:
        splits = [f"{num} {NO_SPLIT if name == 'not said' else name}" for name, num in scene.splits.items()]
        splits = ", ".join(splits) or "no frames"
        for note in [f"poses: {scene.pose_source or 'none'}; split of the frames: {splits}", *scene.warnings]:
            console.print(f"{scene.name}: {note}", highlight=False, markup=False, soft_wrap=True)
    for row in facts.left_out:
        line = f"left out: {row.count} x {row.reason}, such as {row.example}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _cells(camera: "CameraFacts", has_clock: bool) -> list[str]:
    rate = "–" if camera.fps is None else f"{camera.fps:.3g}{' (varies)' if camera.variable_rate else ''}"
    poses = f"{camera.num_posed}{', moves' if camera.moves else ''}" if camera.has_poses else "none"
    focal = "–" if camera.focal_px is None else f"{camera.focal_px:.1f}"
    times = [f"{camera.start_s:.3f}", f"{camera.duration_s:.3f}"] if has_clock else ["–", "–"]
    return [str(camera.num_frames), rate, *times, f"{camera.width}x{camera.height}", poses, focal]
