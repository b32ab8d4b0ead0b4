"""Stage `render`: make a set of scenes of moving people filmed by calibrated cameras."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one worker, one core

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
import yaml
from assets import default_folder, fetch_wheels
from dataset import LAYOUTS, Recording, scene_name, write_scene
from joblib import Parallel, delayed
from motion import CLIPS
from tqdm import tqdm

from fourdistill.errors import InputError

DEFAULTS = yaml.safe_load((Path(__file__).parent / "params.yaml").read_text())["render"]


def choose_clips(scenes: int, motions: list[str], seed: int) -> list[str]:
    """A clip for each scene: every round gives each motion once, in an order drawn anew."""
    generator = np.random.default_rng([seed, 2**31])
    clips: list[str] = []
    while len(clips) < scenes:
        clips += [motions[i] for i in generator.permutation(len(motions))]
    return clips[:scenes]


def render(
    out: Annotated[Path, typer.Option(help="Folder that gets one folder per scene.")],
    seed: Annotated[int, typer.Option(help="Every random choice follows from it.")] = DEFAULTS["seed"],
    scenes: Annotated[int, typer.Option(help="Number of scenes.")] = DEFAULTS["scenes"],
    cameras: Annotated[int, typer.Option(help="Cameras per scene.")] = DEFAULTS["cameras"],
    frames: Annotated[int, typer.Option(help="Frames per camera, spread evenly over the clip.")] = DEFAULTS["frames"],
    resolution: Annotated[int, typer.Option(help="Pixels a side.")] = DEFAULTS["resolution"],
    layout: Annotated[str, typer.Option(help=f"Cameras: {' or '.join(LAYOUTS)}.")] = DEFAULTS["layout"],
    motions: Annotated[str, typer.Option(help="Clips, separated by commas.")] = ",".join(DEFAULTS["motions"]),
    crf: Annotated[int, typer.Option(help="x264's quality, lower is better.")] = DEFAULTS["crf"],
    jobs: Annotated[int, typer.Option(help="Processes; -1: one per core.")] = DEFAULTS["jobs"],
    wheels: Annotated[Path | None, typer.Option(help="Where the body and motion wheels are kept.")] = None,
) -> None:
    """Render scenes in the Neural 3D Video layout; scenes that are there already are kept."""
    names = motions.split(",")
    unknown = sorted(set(names) - set(CLIPS))
    if unknown:
        raise InputError(f"motions: {unknown[0]!r}: expected names among {', '.join(CLIPS)}")
    if layout not in LAYOUTS:
        raise InputError(f"layout: expected {' or '.join(LAYOUTS)}, got {layout!r}")
    folder = wheels or default_folder()
    fetch_wheels(folder)
    out.mkdir(parents=True, exist_ok=True)
    recording = Recording(seed, cameras, frames, resolution, layout, crf)
    clips = choose_clips(scenes, names, seed)
    tasks = (delayed(write_scene)(out, index, clip, recording, folder) for index, clip in enumerate(clips))
    for _ in tqdm(Parallel(n_jobs=jobs, return_as="generator")(tasks), total=scenes, desc="render", mininterval=5):
        pass
    wanted = {scene_name(index, clip) for index, clip in enumerate(clips)}
    extra = sorted(path.name for path in out.iterdir() if path.is_dir() and path.name not in wanted)
    if extra:
        raise InputError(f"{out / extra[0]}: expected only the {scenes} scenes of seed {seed} in {out}")


def main() -> None:
    """Run the command; bad input ends with one line and exit status 2."""
    try:
        typer.run(render)
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
