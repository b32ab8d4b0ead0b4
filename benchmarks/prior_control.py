"""Control of a displacement prior without generation: its codes are matched to those of the scene's true frames.

The sweeps are those of `evaluate`, on more scenes. The prior's control is an upper bound for that of the pictures
generated from its codes. `--random 1000` takes as many random commands of each scene instead, which tells apart priors
that the few commands of sweeps do not. `codes.error_over_copy` is the codes' squared error over that of a copy of the
source.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from fourdistill.errors import InputError
from fourdistill.evaluation.metrics.control import Outcomes, control_values, outcomes, sweep_correlation
from fourdistill.evaluation.metrics.retrieval import Grid, read_grids
from fourdistill.evaluation.metrics.summary import commanded_frames
from fourdistill.evaluation.protocol.command import Command, FrameKey
from fourdistill.evaluation.protocol.sweeps import Sweep, build_sweeps
from fourdistill.geometry.displacement import Displacement
from fourdistill.models.conditions import Conditions
from fourdistill.models.prior import DisplacementPrior
from fourdistill.models.view_encoding import to_tensors
from fourdistill.pairs.frame_pairs import read_frame_embeds
from fourdistill.params import Params, load_params

FIGURES = ("time.mae_frames", "view.azimuth_error_deg", "joint.top1", "leakage.time_frames", "leakage.azimuth_deg")


@torch.no_grad()
def displaced_codes(
    prior: DisplacementPrior, images: list[list[Command]], code_of: dict[FrameKey, np.ndarray]
) -> np.ndarray:
    """Commands (M) of each condition image, codes of their sources (K,) => codes of the expected images (M, K)."""
    conditions = []
    for commands in images:
        codes = torch.from_numpy(np.stack([code_of[command.source] for command in commands]))  # (M, K)
        moved = Displacement.merge([command.displacement for command in commands], np.stack)
        has_image = torch.ones(len(codes), dtype=torch.bool)
        conditions.append(Conditions(codes, has_image, to_tensors(moved, codes.device, codes.dtype)))
    every = replace(conditions[0], others=tuple(conditions[1:]))
    return prior.predict([each.image_embeds for each in every.per_image], every).numpy()


def read_codes(prior: DisplacementPrior, grid: Grid, features: Path | str) -> np.ndarray:
    """The codes (N, K) of a scene's frames."""
    keys = [(key.scene, key.camera, key.frame) for key in grid.keys]
    return prior.codec.encode(read_frame_embeds(features, keys).float()).numpy()


def random_sweep(scene: str, grid: Grid, count: int, new_scene: bool, rng: np.random.Generator) -> Sweep:
    """Commands from any frame of a scene to any other."""
    targets = [grid.keys[index] for index in rng.integers(len(grid.keys), size=count)]
    nowhere = Displacement.from_user()
    commands = [Command("joint", key, key, nowhere, None, new_scene=new_scene) for key in targets]
    return Sweep(f"{scene}_random", from_elsewhere(commands, {scene: grid}, rng))


def from_elsewhere(commands: list[Command], grids: dict[str, Grid], rng: np.random.Generator) -> list[Command]:
    """The same targets, each from another random frame of its scene."""
    moved = []
    for command in commands:
        grid = grids[command.source.scene]
        target = grid.index(command.target)
        source = (target + rng.integers(1, len(grid.keys))) % len(grid.keys)
        displacement = Displacement.from_frames(grid.seen[source], grid.seen[target], True, True, None)
        moved.append(replace(command, kind="joint", source=grid.keys[source], displacement=displacement))
    return moved


def measure(
    prior: DisplacementPrior,
    sweeps: list[Sweep],
    grids: dict[str, Grid],
    features: Path | str,
    num_images: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    """The figures of `evaluate` over some sweeps, for codes instead of pictures, and the codes' error."""
    codes = {scene: read_codes(prior, grids[scene], features) for scene in {sweep.scene for sweep in sweeps}}
    code_of = {key: code for scene in codes for key, code in zip(grids[scene].keys, codes[scene], strict=True)}
    commands = [command for sweep in sweeps for command in sweep.commands]
    images = [commands, *(from_elsewhere(commands, grids, rng) for _ in range(num_images - 1))]
    expected = displaced_codes(prior, images, code_of)
    found = outcomes(commands, expected, grids, codes)
    values = control_values(commands, found)
    figures = {name: float(values[name][0].mean()) for name in FIGURES if len(values[name][0])}
    source, target = (np.stack([code_of[getattr(each, end)] for each in commands]) for end in ("source", "target"))
    figures["codes.error_over_copy"] = float(np.square(expected - target).sum() / np.square(source - target).sum())
    if correlations := time_correlations(sweeps, found):
        figures["time.spearman"] = float(np.mean(correlations))
    return figures


def time_correlations(sweeps: list[Sweep], found: Outcomes) -> list[float]:
    """The rank correlations of the sweeps in time."""
    correlations, first = [], 0
    for sweep in sweeps:
        rows = slice(first, first + len(sweep.commands))
        if sweep.commands[0].kind == "time":
            commanded = np.array(commanded_frames(sweep.commands))
            correlations.append(sweep_correlation(commanded, found.obtained_frames[rows]))
        first = rows.stop
    return correlations


def run(params: Params, folder: Path, num_scenes: int, num_images: int, mirror: bool, num_random: int | None) -> None:
    """Print the figures of a prior for known and for new scenes."""
    prior, paths = DisplacementPrior.load(folder), params.paths
    if not mirror:
        prior.set_mirror(None)
    rng = np.random.default_rng(params.seed)
    sweeps = build_sweeps(paths.frames_table, paths.scenes_table, num_scenes, 8, max_gap=None, max_gap_s=None, rng=rng)
    is_new = {sweep.scene: sweep.commands[0].new_scene for sweep in sweeps}
    grids = read_grids(paths.frames_table, paths.scenes_table, sorted(is_new))
    if num_random is not None:
        sweeps = [random_sweep(scene, grids[scene], num_random, new, rng) for scene, new in is_new.items()]
    for name, new in (("known scenes", False), ("new scenes", True)):
        chosen = [sweep for sweep in sweeps if is_new[sweep.scene] == new]
        if chosen:
            figures = measure(prior, chosen, grids, paths.features, num_images, rng)
            print(f"{name}: " + "  ".join(f"{figure} {value:.3g}" for figure, value in figures.items()))


def command(
    folder: Annotated[Path, typer.Argument(help="A prior, or an adapter with one.")] = Path("models/prior"),
    params: Annotated[Path, typer.Option(help="Where the data are.")] = Path("params.yaml"),
    over: Annotated[Path | None, typer.Option(help="Parameters that take the place of those.")] = None,
    num_scenes: Annotated[int, typer.Option(help="New scenes first, then known ones.")] = 23,
    num_images: Annotated[int, typer.Option(help="Condition images; all but the first anywhere in the scene.")] = 1,
    mirror: Annotated[bool, typer.Option(help="Predict from both sides of a mirror, if the prior can.")] = True,
    random: Annotated[int | None, typer.Option(min=1, help="Random commands per scene, instead of sweeps.")] = None,
) -> None:
    """Measure the control of a prior alone."""
    try:
        run(load_params(params, over), folder, num_scenes, num_images, mirror, random)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(command)
