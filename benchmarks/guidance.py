"""Effect of time or view guidance on its own displacement and on the other: control and leakage over its weight.

    python benchmarks/guidance.py models/adapter --out reports/guidance

The sweeps of `evaluate` are generated with `time_guidance`, then with `view_guidance`, at every weight; the other
guidance is as in `evaluate`. Pictures are matched to the true frames of their scenes by VAE latents; intervals are 95 %
by resampling sweeps. Writes guidance.csv, one row per weight, and guidance.png: control of the guided displacement, and
leakage.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from matplotlib.figure import Figure

from fourdistill.errors import InputError
from fourdistill.evaluation.metrics.cells import Cells, read_cells
from fourdistill.evaluation.metrics.feature_spaces import FeatureSpaces
from fourdistill.evaluation.metrics.summary import Summary
from fourdistill.evaluation.protocol.frames import FrameReader
from fourdistill.evaluation.protocol.sweeps import Sweep, build_sweeps
from fourdistill.evaluation.report.sheets import write_csv
from fourdistill.evaluation.systems.generate import Painter
from fourdistill.inference.pipeline import FourDistillPipeline
from fourdistill.models.base.model import image_size
from fourdistill.models.base.precision import default_device
from fourdistill.params import Params, load_params
from fourdistill.storage.files import new_file

WEIGHTS = (1.0, 1.5, 2.0, 3.0)
SPACE = "latents"
SHOWN = {
    "time_guidance": ("time_frames", "joint_top1", "leaked_azimuth_deg"),
    "view_guidance": ("azimuth_deg", "joint_top1", "leaked_frames"),
}
TITLES = {
    "time_frames": "time sweeps: error, frames",
    "azimuth_deg": "camera sweeps: error, degrees",
    "joint_top1": "joint sweeps: top-1",
    "leaked_azimuth_deg": "time sweeps: leaked azimuth, degrees",
    "leaked_frames": "camera sweeps: leaked time, frames",
}
Row = dict[str, Any]


def measure(
    paint: Painter, spaces: FeatureSpaces, cells: Cells, sweeps: Sequence[Sweep], num_bootstrap: int
) -> list[Row]:
    """One row for every weight of each guidance."""
    commands = [command for sweep in sweeps for command in sweep.commands]
    rows: list[Row] = []
    for guidance in SHOWN:
        for weight in WEIGHTS:
            name = f"{guidance} {weight:g}"
            images = paint(commands, name, **{guidance: weight})
            features = spaces(images, len(images), f"features, {name}")[SPACE]
            rows.append({"guidance": guidance, "weight": weight} | figures(sweeps, cells, features, num_bootstrap))
    return rows


def figures(sweeps: Sequence[Sweep], cells: Cells, features: np.ndarray, num_bootstrap: int) -> dict[str, float]:
    """Control and leakage of the sweeps' pictures by their features (M, D), with intervals."""
    commands = [command for sweep in sweeps for command in sweep.commands]
    found = cells.locate(commands, features, SPACE)
    kinds = np.array([command.kind for command in commands])
    sweep_of = np.repeat(np.arange(len(sweeps)), [len(sweep.commands) for sweep in sweeps])
    frames, azimuth = np.abs(found.frames), np.abs(found.azimuth)
    values = {
        "time_frames": (frames, "time"),
        "azimuth_deg": (azimuth, "view"),
        "joint_top1": (found.hit.astype(float), "joint"),
        "leaked_azimuth_deg": (azimuth, "time"),
        "leaked_frames": (frames, "view"),
    }
    summary = Summary(num_bootstrap, seed=0)
    for name, (of_all, kind) in values.items():
        members = (kinds == kind) & np.isfinite(of_all)
        summary.add(name, of_all[members], groups=sweep_of[members])
    return summary.metrics


def draw(rows: Sequence[Row], path: Path) -> None:
    """A row of plots for each guidance: its own control, joint control, and leakage into the other."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    for axes, (guidance, names) in zip(figure.subplots(len(SHOWN), 3), SHOWN.items(), strict=True):
        of_guidance = [row for row in rows if row["guidance"] == guidance]
        for ax, name in zip(axes, names, strict=True):
            measured = [row for row in of_guidance if name in row]  # empty if there are no sweeps of this kind
            weights, values, low, high = (
                [row[column] for row in measured if column in row]
                for column in ("weight", name, f"{name}.ci_low", f"{name}.ci_high")
            )
            ax.plot(weights, values, marker="o")
            if low:
                ax.fill_between(weights, low, high, alpha=0.2)
            top = 1.1 * max([*values, *high], default=1.0)
            ax.set(title=TITLES[name], xlabel=guidance.replace("_", " "), ylim=(0, top or 1.0))
    with new_file(path) as partial:
        figure.savefig(partial, format="png", dpi=150)


def run(params: Params, adapter: Path, out: Path, num_scenes: int | None, steps: int | None) -> None:
    """Measure one adapter and write both files."""
    paths, pairs = params.paths, params.displacement
    settings = params.evaluate
    settings = replace(settings, num_inference_steps=steps or settings.num_inference_steps)
    num_scenes = num_scenes or settings.sweeps.num_scenes
    pipe = FourDistillPipeline.from_pretrained(paths.base, adapter=adapter).to(default_device())
    sweeps = build_sweeps(
        paths.frames_table, paths.scenes_table, num_scenes, settings.sweeps.num_steps,
        max_gap=pairs.max_gap,
        max_gap_s=pairs.max_gap_s, rng=np.random.default_rng(params.seed),
    )  # fmt: skip
    size = image_size(pipe.unet, pipe.vae)
    read = FrameReader(paths.frames_table, paths.frames, size)
    spaces = FeatureSpaces(pipe.vae, pipe.image_encoder, pipe.feature_extractor, size, settings.batch_size)
    paint = Painter(pipe, read, batch_size=settings.batch_size, seed=params.seed, **settings.sampling())
    cells = read_cells({sweep.scene for sweep in sweeps}, paths.frames_table, paths.scenes_table, read, spaces)
    rows = measure(paint, spaces, cells, sweeps, settings.scores.num_bootstrap)
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "guidance.csv", rows)
    draw(rows, out / "guidance.png")


def command(
    adapter: Annotated[Path, typer.Argument(help="A folder.")] = Path("models/adapter"),
    params: Annotated[Path, typer.Option(help="Where the data are, and how `evaluate` paints.")] = Path("params.yaml"),
    over: Annotated[Path | None, typer.Option(help="Parameters that take the place of those.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of both files.")] = Path("reports/guidance"),
    num_scenes: Annotated[int | None, typer.Option(min=1, help="As `evaluate` has it by default.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Likewise.")] = None,
) -> None:
    """Measure control and leakage over the weights of both guidances."""
    try:
        run(load_params(params, over), adapter, out, num_scenes, steps)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(command)
