"""The command line: look at raw data, fetch public data sets, score pictures made by any system."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from fourdistill.data.catalogue import DATASETS, find_dataset
from fourdistill.data.fetch import fetch as fetch_dataset
from fourdistill.data.files import new_file
from fourdistill.data.inspection import CameraFacts, FolderFacts, find_format, inspect_folder
from fourdistill.data.inspection_figure import draw_scenes
from fourdistill.data.readers import READERS, SourceFolder
from fourdistill.errors import InputError

MAX_DETAILED = 8  # scenes that `inspect` shows camera by camera
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown")


@app.callback()
def root() -> None:
    """Joint control of time and viewpoint in text-to-image generation."""


@contextmanager
def status_2_on_bad_input() -> Iterator[None]:
    """An `InputError` becomes one line and exit status 2."""
    try:
        yield
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


@app.command(epilog="Example: `fourdistill inspect data/raw/mocap --figure mocap.png`")
def inspect(
    path: Annotated[Path, typer.Argument(help="Folder of raw data, as `extract_frames.sources` would name it.")],
    format_name: Annotated[
        str | None, typer.Option("--format", help=f"One of {', '.join(READERS)}; by default what the files suggest.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the same as JSON.")] = False,
    figure: Annotated[Path | None, typer.Option(help="Draw cameras and a contact sheet into this PNG.")] = None,
) -> None:
    """Say what is in a folder of raw data: scenes, cameras, frames, times, poses, splits, and what to mind.

    Exit status 2 where it cannot be read as the format.
    """
    with status_2_on_bad_input():
        facts, scenes = inspect_folder(SourceFolder(path, format_name or find_format(path)))
        if figure:
            draw_scenes(scenes, figure)
    if as_json:
        typer.echo(json.dumps(asdict(facts), indent=2))
        return
    _print_facts(facts)


def _print_facts(facts: FolderFacts) -> None:
    """A row per camera, or per scene where there are many."""
    console = Console()
    console = console if console.is_terminal else Console(width=160)
    table = Table(title=f"format {facts.format}, {len(facts.scenes)} scenes", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("scene", "camera", "frames", "fps", "start s", "duration s", "size", "poses", "focal px"):
        table.add_column(heading, no_wrap=True)
    for scene in facts.scenes:
        shown = scene.cameras if len(facts.scenes) <= MAX_DETAILED else scene.cameras[:1]
        for camera in shown:
            name = camera.name if shown is scene.cameras else f"{len(scene.cameras)} cameras"
            table.add_row(scene.name, name, *_cells(camera, scene.has_clock))
    console.print(table)
    for scene in facts.scenes:
        splits = ", ".join(f"{num} {name}" for name, num in scene.splits.items())
        for note in [f"poses: {scene.pose_source or 'none'}; split of the frames: {splits}", *scene.warnings]:
            console.print(f"{scene.name}: {note}", highlight=False, markup=False, soft_wrap=True)


def _cells(camera: CameraFacts, has_clock: bool) -> list[str]:
    rate = "–" if camera.fps is None else f"{camera.fps:.3g}{' (varies)' if camera.variable_rate else ''}"
    poses = f"{camera.num_posed}{', moves' if camera.moves else ''}" if camera.has_poses else "none"
    focal = "–" if camera.focal_px is None else f"{camera.focal_px:.1f}"
    times = [f"{camera.start_s:.3f}", f"{camera.duration_s:.3f}"] if has_clock else ["–", "–"]
    return [str(camera.num_frames), rate, *times, f"{camera.width}x{camera.height}", poses, focal]


@app.command(epilog="Example: `fourdistill fetch neural-3d-video --part coffee_martini`")
def fetch(
    name: Annotated[str | None, typer.Argument(help="Of the data set; without it, all are listed.")] = None,
    part: Annotated[list[str] | None, typer.Option(help="Only this part of it; may be repeated.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the scenes; `data/raw/NAME` by default.")] = None,
    downloads: Annotated[Path, typer.Option(help="Where archives are kept.")] = Path("~/.cache/fourdistill"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the table, or what was fetched, as JSON.")] = False,
) -> None:
    """Fetch a public data set: goes on where it stopped, verifies, unpacks. Mind the licences.

    Exit status 2 where it cannot be had, or is not as published.
    """
    with status_2_on_bad_input():
        if name is None:
            _print_datasets(as_json)
            return
        dataset = find_dataset(name)
        folder = out or Path("data/raw") / name
        fetched = fetch_dataset(dataset, dataset.choose(part or []), folder, downloads.expanduser())
    if as_json:
        typer.echo(json.dumps([asdict(archive) for archive in fetched], indent=2))
        return
    for archive in fetched:
        typer.echo(f"{archive.part}: {archive.num_files} files, SHA-256 {archive.sha256}")
    source = f"{{name: {folder.name}, format: {dataset.format}}}"
    typer.echo(f"{folder}: licence {dataset.licence}; extract_frames.sources: [{source}]")


def _print_datasets(as_json: bool) -> None:
    """All public data sets that are known."""
    if as_json:
        typer.echo(json.dumps([asdict(dataset) for dataset in DATASETS], indent=2))
        return
    for dataset in DATASETS:
        typer.echo(f"{dataset.name}: {dataset.title}\n  licence {dataset.licence}; {dataset.homepage}")
        for archive in dataset.archives:
            size = "size not published" if archive.size is None else f"{archive.size / 1e6:.1f} MB"
            checked = "" if archive.sha256 else ", no checksum published"
            typer.echo(f"  --part {archive.part}: {size}{checked}")
        if dataset.note:
            typer.echo(f"  {dataset.note}")


@app.command(epilog="Example: `fourdistill evaluate --generated theirs/ --grid data/frames.parquet --json`")
def evaluate(
    generated: Annotated[Path, typer.Option(help="Folder of pictures with a `commands.csv`.")],
    grid: Annotated[Path, typer.Option(help="Frames table of the true camera x time grids.")],
    frames: Annotated[Path | None, typer.Option(help="Folder of the true frames; `frames/` beside the table.")] = None,
    base: Annotated[str, typer.Option(help="Whose VAE and CLIP span the feature spaces.")] = "data/base/mini",
    space: Annotated[str, typer.Option(help="Declared feature space: pixels, latents or clip.")] = "latents",
    large_gap: Annotated[float, typer.Option(help="Share of the scene from which a pair is large in time.")] = 0.25,
    large_azimuth_deg: Annotated[float, typer.Option(help="Azimuth from which a pair is large in view.")] = 60.0,
    num_bootstrap: Annotated[int, typer.Option(min=1, help="Resamplings behind each interval.")] = 1000,
    structure_from_motion: Annotated[
        bool, typer.Option("--structure-from-motion", help="Pose the orbits with COLMAP: for scenes with texture.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the resamplings.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the figures to this JSON file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Score pictures made by any system: image quality, control in time and view, sequences.

    `commands.csv` has the columns file, scene, source_camera, source_frame, target_camera, target_frame and sweep;
    `reports/evaluation/generated/` of `make repro` is an example. Exit status 2 where the input is not as expected.
    """
    # Here, since torch takes seconds to import and the other commands do without.
    from fourdistill.evaluation.feature_spaces import SPACES, FeatureSpaces
    from fourdistill.evaluation.folder import score_folder
    from fourdistill.evaluation.frames import FrameReader
    from fourdistill.evaluation.scoring import Scorer, ScoreSettings
    from fourdistill.evaluation.tables import format_figures
    from fourdistill.models.base import load_base
    from fourdistill.models.precision import default_device

    with status_2_on_bad_input():
        if space not in SPACES:
            raise InputError(f"--space: expected one of {', '.join(SPACES)}, found {space!r}")
        if out and (out.is_dir() or not out.parent.is_dir()):
            raise InputError(f"--out: expected a file in an existing folder, found {out}")
        loaded = load_base(base, with_ip_adapter=False).to(default_device())
        size = int(loaded.unet.config["sample_size"]) * 2 ** (len(loaded.vae.config["block_out_channels"]) - 1)
        spaces = FeatureSpaces(loaded.vae, loaded.image_encoder, loaded.feature_extractor, size)
        read = FrameReader(grid, frames or grid.parent / "frames", size)
        settings = ScoreSettings(space, large_gap, large_azimuth_deg, num_bootstrap, structure_from_motion)
        scored = score_folder(generated, grid, Scorer(read, spaces, grid, settings, seed))
        metrics = scored.summary.metrics
        if out:
            with new_file(out) as partial:
                partial.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(metrics, indent=2))
        return
    typer.echo("\n\n".join([format_figures(metrics), *scored.remarks()]))


@app.command(epilog="Example: `fourdistill demo --adapter models/adapter`")
def demo(
    base: Annotated[str, typer.Option(help="Base model: a folder or a Hub id.")] = "data/base/mini",
    adapter: Annotated[str, typer.Option(help="Adapter for it.")] = "models/mini-adapter",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...; by default the best there is.")] = None,
    steps: Annotated[int, typer.Option(min=1, max=100, help="Diffusion steps that the page begins with.")] = 20,
    examples: Annotated[Path, typer.Option(help="Folder of pictures to pick from.")] = Path("examples"),
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Serve a web page: a picture, sliders for time and camera, and what the pipeline makes of them.

    It keeps nothing: pictures stay in memory while the page is open, uploaded files are removed after minutes.
    """
    from fourdistill.demo.serve import serve
    from fourdistill.inference.pipeline import FourDistillPipeline
    from fourdistill.models.precision import default_device

    with status_2_on_bad_input():
        pipe = FourDistillPipeline.from_pretrained(base, adapter=adapter).to(device or default_device())
        serve(
            pipe, examples=examples, num_inference_steps=steps, host=host, port=port, open_browser=open_browser,
            announce=lambda address: typer.echo(f"Serving at {address}; stop with Ctrl-C."),
        )  # fmt: skip


if __name__ == "__main__":
    app()
