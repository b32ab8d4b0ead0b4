"""Human-readable output of an evaluation: contact sheets, sweeps as sheets and GIFs, and the list of pairs."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fourdistill.evaluation.protocol.command import Command
from fourdistill.evaluation.protocol.sweeps import Sweep
from fourdistill.evaluation.report.pictures import (
    MARGIN,
    contact_sheet,
    save_png,
    save_there_and_back,
    sheet_width,
    wrap,
)
from fourdistill.storage.files import new_file
from fourdistill.tables import KINDS

COLUMNS = ("condition", "generated", "truth")
EDITS_SHEET = "edits"
Triplet = tuple[Image.Image, Image.Image, Image.Image]
"""condition, generated, truth."""


def write_sheets(folder: Path, commands: Sequence[Command], triplets: Sequence[Triplet], num_rows: int) -> None:
    """Write `pairs_<kind>.png` for every kind: `num_rows` evenly spaced pairs, in order of displacement size."""
    for kind in KINDS:
        members = sorted(
            (i for i, command in enumerate(commands) if command.kind == kind), key=lambda i: commands[i].size()
        )
        if members:
            shown = [members[i] for i in np.unique(np.linspace(0, len(members) - 1, num_rows).round().astype(int))]
            rows = [triplets[i] for i in shown]
            labels = [f"{commands[i].label()}  {commands[i].source.scene}" for i in shown]
            save_png(folder / f"pairs_{kind}.png", contact_sheet(rows, COLUMNS, labels))


def write_sweeps(folder: Path, sweeps: Sequence[Sweep], triplets: Sequence[Triplet], num_scenes: int) -> None:
    """Write the sweeps of the first `num_scenes` scenes; `triplets` are in the order of all sweeps' commands."""
    shown = list(dict.fromkeys(sweep.scene for sweep in sweeps))[:num_scenes]
    start = 0
    for sweep in sweeps:
        stop = start + len(sweep.commands)
        if sweep.scene in shown:
            write_sweep(folder, sweep, triplets[start:stop])
        start = stop


def write_sweep(folder: Path, sweep: Sweep, triplets: Sequence[Triplet]) -> None:
    """Write `<sweep>.png` (generated above truth, a column per command) and `<sweep>.gif` (the triplets as frames)."""
    labels = [command.label() for command in sweep.commands]
    (condition, *_), generated, truth = zip(*triplets, strict=True)
    rows = [[condition, *generated], [condition, *truth]]
    sheet = contact_sheet(rows, ["condition", *labels], [["", "generated"], ["", "truth"]])
    save_png(folder / f"{sweep.name}.png", sheet)
    frames = [contact_sheet([row], COLUMNS, [label]) for row, label in zip(triplets, labels, strict=True)]
    save_there_and_back(folder / f"{sweep.name}.gif", frames)


def write_edits(
    folder: Path, commands: Sequence[Command], columns: Mapping[str, Sequence[Image.Image]], num_rows: int
) -> None:
    """Write `edits.png`: a row for each of the first `num_rows` edits, with its command and prompt below it.

    `columns` maps a heading to one image per command.
    """
    count = min(num_rows, len(commands))
    rows = [[images[i] for images in columns.values()] for i in range(count)]
    if rows:
        width = sheet_width(len(columns), rows[0][0].width) - 2 * MARGIN
        labels = [f"{c.label()}  {c.source.scene}\n{wrap(c.caption or '', width)}" for c in commands[:count]]
        save_png(folder / f"{EDITS_SHEET}.png", contact_sheet(rows, list(columns), labels))


def told_columns(command: Command) -> dict[str, float | None]:
    """The command by column, in the form that `fourdistill generate` takes; empty where absent."""
    told = command.told
    return {"time": told["time"], "azimuth_deg": told["azimuth"], "elevation_deg": told["elevation"]} | {
        "radius": told["radius"]
    }


def write_pairs(
    path: Path, commands: Sequence[Command], seeds: Sequence[int], large: np.ndarray, scores: Mapping[str, np.ndarray]
) -> None:
    """Write the evaluated pairs as CSV, one row each: the command, the seed of the noise, and every score.

    Missing scores are left empty.
    """
    rows = []
    for i, command in enumerate(commands):
        row: dict[str, Any] = {"pair_id": command.pair_id, "kind": command.kind, "scene": command.source.scene}
        row["new_scene"] = command.new_scene
        for side in ("source", "target"):
            key = asdict(getattr(command, side))
            row |= {f"{side}_camera": key["camera"], f"{side}_frame": key["frame"]}
        row |= told_columns(command) | {"size": round(command.size(), 4), "large": bool(large[i]), "seed": seeds[i]}
        known = {name: float(values[i]) for name, values in scores.items()}
        rows.append(row | {name: round(value, 4) if np.isfinite(value) else "" for name, value in known.items()})
    write_csv(path, rows)


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows with the same keys as CSV, atomically; the file is empty if there are none."""
    with new_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys() if rows else (), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
