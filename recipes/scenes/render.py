"""Stage `render`: render a set of scenes of moving people, seen by calibrated cameras."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy is imported: parallelism is over scenes, not within them

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from assets import default_folder, fetch_wheels
from dataset import scene_name, write_scene
from joblib import Parallel, delayed
from settings import LAYOUTS, Settings, claim_folder, read_settings
from tqdm import tqdm

from fourdistill.errors import InputError

PARAMS = Path(__file__).parent / "params.yaml"


def choose_clips(settings: Settings) -> list[str]:
    """A clip for each scene: every round contains each motion once, in a new random order."""
    generator = np.random.default_rng([settings.seed, 2**31])
    clips: list[str] = []
    while len(clips) < settings.scenes:
        clips += [settings.motions[i] for i in generator.permutation(len(settings.motions))]
    return clips[: settings.scenes]


def render_set(settings: Settings, out: Path, wheels: Path, jobs: int) -> None:
    """Render all scenes of `settings` into `out` on `jobs` processes (-1: one per core); finished scenes are kept."""
    claim_folder(out, settings)
    fetch_wheels(wheels)
    clips = choose_clips(settings)
    wanted = {scene_name(index, clip) for index, clip in enumerate(clips)}
    extra = sorted(
        path.name for path in out.iterdir() if path.is_dir() and path.name[0] != "." and path.name not in wanted
    )
    if extra:
        raise InputError(f"{out / extra[0]}: folder: expected only the {settings.scenes} scenes of this set in {out}")
    tasks = (delayed(write_scene)(out, index, clip, settings, wheels) for index, clip in enumerate(clips))
    finished = Parallel(n_jobs=jobs, return_as="generator_unordered")(tasks)
    for _ in tqdm(finished, total=settings.scenes, desc="render", unit="scene", mininterval=1):
        pass


def command(
    out: Annotated[Path, typer.Option(help="Folder that gets one folder per scene.")],
    params: Annotated[
        Path, typer.Option(help="Where options that are not given come from.", show_default="beside this script")
    ] = PARAMS,
    seed: Annotated[int | None, typer.Option(help="Every random choice follows from it.")] = None,
    scenes: Annotated[int | None, typer.Option(help="Number of scenes.")] = None,
    cameras: Annotated[int | None, typer.Option(help="Cameras per scene.")] = None,
    frames: Annotated[int | None, typer.Option(help="Frames per camera, spread evenly over the clip.")] = None,
    instants: Annotated[
        int | None, typer.Option(help="Draw the frames from this many even instants of the clip, others per scene.")
    ] = None,
    resolution: Annotated[int | None, typer.Option(help="Pixels a side.")] = None,
    layout: Annotated[str | None, typer.Option(help=f"Cameras: {' or '.join(LAYOUTS)}.")] = None,
    motions: Annotated[
        str | None,
        typer.Option(help="Motions, separated by commas (README.md); walk+punch: legs of one, the rest of another."),
    ] = None,
    crf: Annotated[int | None, typer.Option(help="x264's quality, lower is better.")] = None,
    jobs: Annotated[int, typer.Option(help="Processes; -1: one per core.")] = -1,
    wheels: Annotated[Path | None, typer.Option(help="Where the body and motion wheels are kept.")] = None,
) -> None:
    """Render scenes in the Neural 3D Video layout; existing scenes are kept."""
    overrides = {"seed": seed, "scenes": scenes, "cameras": cameras, "frames": frames, "resolution": resolution}
    overrides |= {
        "instants": instants,
        "layout": layout,
        "motions": motions.split(",") if motions is not None else None,
        "crf": crf,
    }
    try:
        render_set(read_settings(params, overrides), out, wheels or default_folder(), jobs)
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(command)
