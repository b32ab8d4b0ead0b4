"""Control of azimuths between the real cameras, trained with and without frames of the teacher.

    pip install -e .[scenes]
    python recipes/scenes/render.py --out data/between/raw/ring16 --seed 9000 --scenes 8 --cameras 16
    python benchmarks/between_cameras.py            # about 100 core-minutes, most of them for the reconstructions

Eight people who are in no training set are filmed by sixteen cameras. Eight of the cameras, 45° apart, are trained on:
the prior is tuned on them as `params.yaml` recommends for scenes of one's own, and the words follow. The other eight,
half-way between, are the truth. Every command leads from a random frame of a trained camera to a random frame of a
camera in between, and images are located among all 512 frames of their scene. The arms differ in
`reconstruct.enabled` alone; "shipped" is the adapter before tuning. Differences are paired by command. Intervals are
95 % by resampling scenes. Writes data/between/results.md and a sheet.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image
from prior_control import displaced_codes, read_codes
from ruamel.yaml import YAML

from fourdistill.evaluation.metrics.cells import Cells, read_cells
from fourdistill.evaluation.metrics.control import Outcomes, outcomes
from fourdistill.evaluation.metrics.feature_spaces import FeatureSpaces
from fourdistill.evaluation.metrics.image_metrics import psnr, to_tensor
from fourdistill.evaluation.metrics.summary import Summary
from fourdistill.evaluation.protocol.command import Command, FrameKey
from fourdistill.evaluation.protocol.frames import FrameReader
from fourdistill.evaluation.report.pictures import contact_sheet
from fourdistill.evaluation.systems.generate import Painter
from fourdistill.frames.scenes_table import read_frames
from fourdistill.geometry.displacement import Displacement
from fourdistill.inference.pipeline import FourDistillPipeline
from fourdistill.models.base.model import image_size
from fourdistill.models.base.precision import default_device
from fourdistill.params import Params, load_params
from fourdistill.storage.files import new_file
from fourdistill.teacher.reconstruction import load_reconstruction
from fourdistill.teacher.show import to_picture

WORK = Path("data/between")
BETWEEN = [f"cam{number:02d}" for number in range(1, 16, 2)]
SHIPPED, WITHOUT, WITH, TEACHER = "shipped", "without the teacher", "with the teacher", "the teacher itself"
SPACE = "latents"
NUM_COMMANDS = 24  # of a scene
NUM_ROWS = 12  # of the sheet


def arm(name: str, enabled: bool, start_share: float, **changed_paths: str) -> Path:
    """The parameters of one training, as a file that takes the place of those in `params.yaml`."""
    name = f"{name}-{start_share:g}"
    shared = {
        "raw": "raw", "poses_table": "poses.parquet", "frames": "frames", "frames_table": "frames.parquet",
        "scenes_table": "scenes.parquet", "teacher": "teacher", "teacher_table": "teacher.parquet",
        "features": "features", "reports": "reports",
    }  # fmt: skip
    own = {
        "pairs_table": "pairs.parquet", "shards": "shards", "prior": "prior",
        "live_prior": "dvclive_prior", "adapter": "adapter", "live": "dvclive", "plots": "plots",
        "metrics": "metrics.json",
    }  # fmt: skip
    paths = {key: str(WORK / value) for key, value in shared.items()}
    split = {"test_scenes": [], "val_scenes": [], "test_cameras": BETWEEN, "test_times": [], "held_out_in": None}
    over = {
        "paths": paths | {key: str(WORK / name / value) for key, value in own.items()} | changed_paths,
        "sources": [{"name": "ring16", "format": "dynerf"}],
        "augmentations": {"mirror": True},
        "extract_frames": {"split": split},
        "reconstruct": {"enabled": enabled},
        "build_pairs": {"num_pairs": {"val": 0, "test": 0}},
        "train_prior": {"max_steps": 1500, "start_share": start_share},
    }
    path = WORK / f"{name}.yaml"
    with new_file(path) as partial, partial.open("w", encoding="utf-8") as file:
        YAML().dump(over, file)
    return path


def run_stages(stages: Sequence[str], over: Path) -> None:
    """Run some of the pipeline's stages one after the other."""
    for stage in stages:
        subprocess.run([sys.executable, "-m", f"pipeline.{stage}", "--over", str(over)], check=True)


def draw_commands(params: Params, rng: np.random.Generator) -> list[Command]:
    """From random frames of trained cameras to random frames of cameras in between, scene by scene."""
    table, seen = read_frames(params.paths.frames_table, params.paths.scenes_table)
    rows = table.select(["scene", "camera", "frame_index", "caption"]).to_pylist()
    scene, between = np.asarray(table["scene"]), np.isin(np.asarray(table["camera"]), BETWEEN)
    commands = []
    for name in np.unique(scene):
        sources = rng.choice(np.flatnonzero((scene == name) & ~between), NUM_COMMANDS)
        targets = rng.choice(np.flatnonzero((scene == name) & between), NUM_COMMANDS, replace=False)
        for source, target in zip(sources.tolist(), targets.tolist(), strict=True):
            ends = [FrameKey(*(rows[i][part] for part in ("scene", "camera", "frame_index"))) for i in (source, target)]
            moved = Displacement.from_frames(seen[source], seen[target], True, True, None)
            commands.append(Command("joint", ends[0], ends[1], moved, rows[source]["caption"]))
    return commands


def teach(commands: Sequence[Command], params: Params) -> list[Image.Image]:
    """The frames that the reconstructions render for the targets."""
    table = read_frames(params.paths.frames_table, params.paths.scenes_table)[0]
    rows = {(row["scene"], row["camera"], row["frame_index"]): row for row in table.to_pylist()}
    models = {path.name.split(".")[0]: load_reconstruction(path) for path in
              (params.paths.reports / "reconstruct").glob("*.model.safetensors")}  # fmt: skip
    pictures = []
    for command in commands:
        key = command.target
        row = rows[key.scene, key.camera, key.frame]
        c2w, K = np.reshape(row["c2w"], (4, 4)), np.reshape(row["K"], (3, 3))
        pictures.append(to_picture(models[key.scene].render(c2w, K, row["time"]).image))
    return pictures


def code_outcomes(pipe: FourDistillPipeline, commands: list[Command], cells: Cells, features: Path) -> Outcomes:
    """Where the prior's codes are found among the codes of the true frames, before any image is generated."""
    prior = pipe.adapter.prior
    truth = {scene: read_codes(prior, grid, features) for scene, grid in cells.grids.items()}
    code_of = {
        key: code for scene, grid in cells.grids.items() for key, code in zip(grid.keys, truth[scene], strict=True)
    }
    return outcomes(commands, displaced_codes(prior, [commands], code_of), cells.grids, truth)


def values_of(found: Outcomes) -> dict[str, np.ndarray]:
    """The columns of the table for every command."""
    return {"azimuth": np.abs(found.azimuth), "time": np.abs(found.frames), "top1": 100.0 * found.hit}


def table_row(name: str, values: Mapping[str, np.ndarray], commands: Sequence[Command]) -> list[str]:
    """Means over all commands, with intervals over scenes."""
    scenes = np.array([command.target.scene for command in commands])
    summary = Summary(1000, seed=0)
    for column, of_all in values.items():
        summary.add(column, of_all, groups=scenes)
    return [name, *(interval(summary.metrics, column) for column in ("azimuth", "time", "top1", "psnr"))]


def interval(values: dict[str, Any], name: str) -> str:
    """A figure with its interval."""
    if name not in values:
        return "–"
    return f"{values[name]:.3g} ({values[f'{name}.ci_low']:.3g} to {values[f'{name}.ci_high']:.3g})"


def measure(arms: dict[str, Params], seed: int, batch_size: int) -> tuple[list[list[str]], Image.Image]:
    """The rows of the table, and a sheet of some commands."""
    params = arms[WITH]
    commands = draw_commands(params, np.random.default_rng(seed))
    pipes = {name: load_pipeline(each) for name, each in arms.items()}
    any_pipe = pipes[WITH]
    size = image_size(any_pipe.unet, any_pipe.vae)
    read = FrameReader(params.paths.frames_table, params.paths.frames, size)
    spaces = FeatureSpaces(any_pipe.vae, any_pipe.image_encoder, any_pipe.feature_extractor, size, batch_size)
    scenes = {command.target.scene for command in commands}
    cells = read_cells(scenes, params.paths.frames_table, params.paths.scenes_table, read, spaces)
    truth = [read(command.target) for command in commands]

    values, systems = {}, {}
    for name, pipe in pipes.items():
        found = code_outcomes(pipe, commands, cells, Path(params.paths.features))
        values[f"codes, {name}"] = values_of(found)
        sampling = arms[name].evaluate.sampling()
        systems[name] = Painter(pipe, read, batch_size=batch_size, seed=seed, **sampling)(commands, name)
    systems |= {TEACHER: teach(commands, params), "a copy": [read(command.source) for command in commands]}
    for name, pictures in systems.items():
        found = cells.locate(commands, spaces(pictures, len(pictures), f"features, {name}")[SPACE], SPACE)
        values[f"images, {name}"] = values_of(found) | {"psnr": psnr(to_tensor(pictures), to_tensor(truth))}
    for kind in ("codes", "images"):
        ends = values[f"{kind}, {WITHOUT}"], values[f"{kind}, {WITH}"]
        values[f"{kind}, difference of the two"] = {column: ends[1][column] - ends[0][column] for column in ends[0]}
    rows = [table_row(name, of_all, commands) for name, of_all in values.items()]
    chosen = range(0, len(commands), max(1, len(commands) // NUM_ROWS))
    columns = {"condition": systems.pop("a copy"), **systems, "truth": truth}
    shown = [[pictures[i] for pictures in columns.values()] for i in chosen]
    return rows, contact_sheet(shown, list(columns), [commands[i].label() for i in chosen])


def load_pipeline(params: Params) -> FourDistillPipeline:
    """The base with the adapter of one arm."""
    return FourDistillPipeline.from_pretrained(params.paths.base, adapter=params.paths.adapter).to(default_device())


def main(
    seed: Annotated[int, typer.Option(help="Of the commands and of the noise.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Images generated at a time.")] = 16,
    start_share: Annotated[float, typer.Option(help="Of the shipped prior, in the average that is saved.")] = 0.5,
) -> None:
    """Train both arms, measure, and write the table and the sheet; finished reconstructions are kept."""
    without, with_teacher = (arm(name, name == "with", start_share) for name in ("without", "with"))
    if not load_params(over=with_teacher).paths.teacher_table.exists():
        run_stages(["estimate_poses", "extract_frames", "reconstruct"], with_teacher)
    if not Path(load_params(over=with_teacher).paths.features).exists():
        run_stages(["encode_frames"], with_teacher)
    for over in (without, with_teacher):
        if not load_params(over=over).paths.adapter.exists():
            run_stages(["build_pairs", "train_prior", "write_shards", "train"], over)
    shipped = arm("shipped", True, start_share, adapter=str(load_params().paths.pretrained))
    files = {SHIPPED: shipped, WITHOUT: without, WITH: with_teacher}
    rows, sheet = measure({name: load_params(over=over) for name, over in files.items()}, seed, batch_size)
    write_table(rows)
    sheet.save(WORK / "sheet.png")


def write_table(rows: Sequence[Sequence[str]]) -> None:
    """Print the table and write it to results.md."""
    heading = ["", "azimuth error, degrees", "time error, frames", "top-1, %", "PSNR, dB"]
    lines = [heading, ["---"] * len(heading), *rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
    with new_file(WORK / "results.md") as partial:
        partial.write_text(text, encoding="utf-8")
    typer.echo(text)


if __name__ == "__main__":
    typer.run(main)
