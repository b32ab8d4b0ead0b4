"""One evaluation from end to end: choose commands, generate images, score them, and write the results."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fourdistill.evaluation.editability import CaptionEncoder, Edits, choose_edits, score_edits
from fourdistill.evaluation.folder import write_generated
from fourdistill.evaluation.metrics.cells import Cells
from fourdistill.evaluation.metrics.control import Outcomes
from fourdistill.evaluation.metrics.feature_spaces import FeatureSpaces
from fourdistill.evaluation.metrics.second_opinion import SecondOpinion
from fourdistill.evaluation.metrics.summary import Scores, Summary, commanded_frames, summarise_edits
from fourdistill.evaluation.protocol.command import Command
from fourdistill.evaluation.protocol.frames import FrameReader
from fourdistill.evaluation.protocol.pairs import choose_pairs
from fourdistill.evaluation.protocol.sweeps import build_sweeps
from fourdistill.evaluation.report.headline import headline
from fourdistill.evaluation.report.page import write_page
from fourdistill.evaluation.report.sheets import write_csv, write_edits, write_pairs, write_sheets, write_sweeps
from fourdistill.evaluation.scoring import Scored, Scorer, Task
from fourdistill.evaluation.settings import Evaluate
from fourdistill.evaluation.systems.generate import Painter
from fourdistill.evaluation.systems.side_by_side import COPY, MODEL, VAE, Pictures, nearest_train, paint_systems
from fourdistill.inference.pipeline import FourDistillPipeline
from fourdistill.models.base.model import image_size
from fourdistill.storage.files import new_file, new_folder
from fourdistill.tables import FRAMES, read_table


@dataclass(frozen=True)
class Inputs:
    """Where an evaluation reads from."""

    base: str
    """Folder or Hub id of the base."""
    frames_table: Path
    frames: Path | str
    """A folder or an address, as is the next."""
    features: Path | str
    pairs_table: Path
    scenes_table: Path
    max_gap: int | None = None
    """In frames. This and `max_gap_s` (seconds) are the limits that the pairs were drawn with."""
    max_gap_s: float | None = None


@dataclass(frozen=True)
class Outputs:
    """Where an evaluation writes to."""

    metrics: Path
    """The figures of `HEADLINE`."""
    figures: Path
    """All figures, with their intervals."""
    plots: Path
    """A folder for `displacement.csv`, `control.csv` and `editability.csv`."""
    report: Path
    """A folder of images and tables; replaced as a whole."""
    page: Path
    """One self-contained HTML file."""


def evaluate(pipe: FourDistillPipeline, inputs: Inputs, outputs: Outputs, settings: Evaluate, seed: int) -> Scored:
    """Score held-out pairs and sweeps and write the reports; returns the scores, named as in `metrics.summary`.

    Raises `InputError` if a table or frame is missing, or if there is no test pair.
    """
    rng = np.random.default_rng(seed)
    sweeps = build_sweeps(
        inputs.frames_table, inputs.scenes_table, settings.sweeps.num_scenes, settings.sweeps.num_steps,
        max_gap=inputs.max_gap, max_gap_s=inputs.max_gap_s, rng=rng,
    )  # fmt: skip
    task = Task(choose_pairs(inputs.pairs_table, settings.num_pairs, seed), sweeps)
    size = image_size(pipe.unet, pipe.vae)
    read = FrameReader(inputs.frames_table, inputs.frames, size)
    paint = Painter(pipe, read, batch_size=settings.batch_size, seed=seed, **settings.sampling())
    opinion = SecondOpinion(pipe.image_encoder.device) if settings.scores.second_opinion else None
    spaces = FeatureSpaces(pipe.vae, pipe.image_encoder, pipe.feature_extractor, size, settings.batch_size, opinion)
    spaces.check(settings.scores.feature_space, "evaluate.scores.feature_space")
    nearest = nearest_train(task.commands, inputs.frames_table, inputs.features, rng)
    groups = [task.pairs, *(sweep.commands for sweep in sweeps)]
    pictures = paint_systems(paint, spaces, groups, nearest, rng, baselines=settings.baselines)

    score = Scorer(read, spaces, inputs.frames_table, inputs.scenes_table, settings.scores, seed)
    scored = score(task, pictures)
    edits = score_editability(task.swept, paint, spaces, scored.cells, inputs, settings, rng)
    summarise_edits(edits.figures(), edits.commands, scored.summary)
    metrics = scored.summary.metrics

    seeds = [paint.noise_seed(command.source) for command in task.commands]
    write_report(outputs.report, read, task, pictures, seeds, scored, edits, settings)
    write_csv(outputs.plots / "displacement.csv", displacement_points(task.pairs, scored.quality))
    write_csv(outputs.plots / "control.csv", control_points(task.swept, scored.control, scored.cells))
    write_csv(outputs.plots / "editability.csv", edit_points(edits, Summary(settings.scores.num_bootstrap, seed)))
    facts = (
        f"{len(task.pairs)} held-out pairs and {len(sweeps)} sweeps of {len({sweep.scene for sweep in sweeps})} "
        f"scenes; {settings.describe(pipe.adapter.sampling)}, seed {seed}; "
        f"control in the space of {settings.scores.feature_space}; intervals are 95 % by bootstrap. "
        + " ".join(f"{remark[0].upper()}{remark[1:]}." for remark in scored.remarks())
    )
    write_page(outputs.page, metrics, outputs.report, outputs.plots, facts)
    for path, figures in ((outputs.figures, metrics), (outputs.metrics, headline(metrics))):
        with new_file(path) as partial:
            partial.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return scored


def write_report(
    path: Path,
    read: FrameReader,
    task: Task,
    pictures: Pictures,
    seeds: Sequence[int],
    scored: Scored,
    edits: Edits,
    settings: Evaluate,
) -> None:
    """Write the sheets, sweeps, `pairs.csv`, and `generated/` with its `commands.csv`; replaces the whole folder."""
    count = len(task.pairs)
    truth = [read(command.target) for command in task.commands]
    triplets = list(zip(pictures[COPY], pictures[MODEL], truth, strict=True))
    edited = {
        "condition": [read(command.source) for command in edits.commands],
        "truth": [read(command.target) for command in edits.commands],
        **edits.pictures(settings.edits.strengths),
    }
    with new_folder(path, suffixes={".png", ".gif", ".csv"}) as folder:
        columns = {prefix + name: values for prefix, of in scored.quality.items() for name, values in of.items()}
        write_pairs(folder / "pairs.csv", task.pairs, seeds[:count], scored.large, columns)
        write_sheets(folder, task.pairs, triplets[:count], settings.report.num_sheet_rows)
        write_sweeps(folder, task.sweeps, triplets[count:], settings.report.num_scenes)
        write_edits(folder, edits.commands, edited, settings.report.num_sheet_rows)
        write_generated(folder / "generated", task, pictures[MODEL], seeds)


def score_editability(
    commands: Sequence[Command],
    paint: Painter,
    spaces: FeatureSpaces,
    cells: Cells,
    inputs: Inputs,
    settings: Evaluate,
    rng: np.random.Generator,
) -> Edits:
    """Score edits at every setting; none if the base has no text projection or the frames have no captions."""
    captions = read_table(inputs.frames_table, FRAMES, ["caption"])["caption"].unique().drop_null().to_pylist()
    edits = choose_edits(commands, captions, settings.edits.num, rng)
    encode = CaptionEncoder.from_base(paint.pipe, inputs.base)
    if encode is None or not edits:
        return Edits([], [], paint.pipe.adapter.config.settings.lambda_)
    return score_edits(paint, spaces, encode, edits, cells, settings.edits.strengths, settings.edits.lambdas)


def displacement_points(commands: Sequence[Command], systems: dict[str, Scores]) -> list[dict[str, float]]:
    """PSNR against displacement size: one row per pair, in order of size, one column per system."""
    names = {MODEL: "model", COPY: "copy", VAE: "vae"}
    points = [
        {"size": round(command.size(), 4)}
        | {name: round(float(systems[prefix]["psnr"][i]), 4) for prefix, name in names.items()}
        for i, command in enumerate(commands)
    ]
    return sorted(points, key=lambda point: point["size"])


def control_points(commands: Sequence[Command], result: Outcomes, cells: Cells) -> list[dict[str, object]]:
    """Where each command of a sweep started and led to, and on which cell its image was found: one row per command.

    `source_azimuth_deg` is the camera's in the scene frame, empty where unknown; the other two are relative to it.
    """
    frames = commanded_frames(commands)
    rows = []
    for i, command in enumerate(commands):
        grid = cells.grids[command.source.scene]
        places = {"source": command.source, "target": command.target, "found": grid.keys[result.cell[i]]}
        azimuth = float(np.degrees(grid.spherical[grid.index(command.source), 0]))
        row = {
            "kind": command.kind,
            "scene": command.source.scene,
            "new_scene": command.new_scene,
            "commanded_frames": frames[i],
            "obtained_frames": result.obtained_frames[i],
            "commanded_azimuth_deg": round(command.told["azimuth"] or 0.0, 2),
            "obtained_azimuth_deg": round(float(np.nan_to_num(result.obtained_azimuth[i])), 2),
            "source_azimuth_deg": round(azimuth, 2) if np.isfinite(azimuth) else "",
        }
        row |= {f"{name}_camera": key.camera for name, key in places.items()}
        rows.append(row | {f"{name}_frame": key.frame for name, key in places.items()})
    return rows


def edit_points(edits: Edits, summary: Summary) -> list[dict[str, float | str]]:
    """Fidelity, editability and control, one row per setting, with the ends of their 95 % intervals.

    Means over all edits; empty if there is no value. `summary`: where they are computed, without figures yet.
    """
    summarise_edits({f"{edited.name}.": edited.scores for edited in edits.tried}, edits.commands, summary)
    ends = {"": "", "_low": ".ci_low", "_high": ".ci_high"}
    return [
        {"setting": e.name, "lambda": e.setting.lambda_, "text_guidance": e.setting.text_guidance}
        | {
            name + end: summary.metrics.get(f"editability.{e.name}.{name}{suffix}", "")
            for name in e.scores
            for end, suffix in ends.items()
        }
        for e in edits.tried
    ]
