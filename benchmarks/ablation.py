"""The ablation: queue the rows of `benchmarks/ablation.yaml` as DVC experiments, and collect their results."""

import csv
import json
import re
import subprocess
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

LIST = Path(__file__).with_suffix(".yaml")
FIGURES = LIST.with_suffix(".csv")
CURVES = LIST.with_name("ablation_curves.csv")
CURVE = ("train.loss", "val.loss", "gap.time.t500", "gap.view.t500")  # of the trainings' logs, that CURVES keeps
OUT = Path("docs/ablation.md")
BEGIN, END = "<!-- figures, by `python benchmarks/ablation.py collect` -->", "<!-- end of figures -->"
Row = dict[str, str]  # a line of FIGURES: the experiment's name, its parameters, and its figures
app = typer.Typer(no_args_is_help=True)


def read_list() -> dict[str, Any]:
    """The committed list: figures, common parameters, groups of rows, seeds."""
    return YAML(typ="safe").load(LIST.read_text(encoding="utf-8"))


def experiments(listed: dict[str, Any], group: str) -> list[tuple[str, str, str]]:
    """(label, experiment's name, arguments of `dvc exp run -S`) of the rows of a group, in order."""
    found = []
    for row, values in listed["groups"][group].items():
        for seed in [0, *listed["seeds"].get(row, [])]:
            name = f"ablation-{re.sub('[^a-z0-9]+', '-', row.lower()).strip('-')}-seed{seed}"
            given = [*overrides(listed["common"]), *overrides(values), f"seed={seed}"]
            found.append((f"{row}, seed {seed}" if seed else row, name, " ".join(given)))
    return found


def overrides(values: dict[str, Any], prefix: str = "") -> list[str]:
    """Nested values as what `dvc exp run -S` takes; `preset` names a file of further values."""
    flat = []
    for name, value in values.items():
        if name == "preset":
            flat += overrides(YAML(typ="safe").load((LIST.parents[1] / value).read_text(encoding="utf-8")))
        elif isinstance(value, dict):
            flat += overrides(value, f"{prefix}{name}.")
        else:
            text = str(value).replace("'", "").replace(" ", "") if isinstance(value, list) else str(value)
            flat.append(f"{prefix}{name}={text.lower() if isinstance(value, bool) else text}")
    return flat


@app.command()
def queue(again: Annotated[bool, typer.Option(help="Run rows again whose figures are there.")] = False) -> None:
    """Queue every row that is neither in `benchmarks/ablation.csv` nor queued or running; further seeds last."""
    listed, collected = read_list(), read_figures()
    known = set(dvc_words("exp", "list", "--all-commits", "--name-only"))
    waiting = on_their_way()
    rows = [row for group in listed["groups"] for row in experiments(listed, group)]
    for _, name, given in sorted(rows, key=lambda row: row[1].endswith("seed0"), reverse=True):
        done = collected.get(name, {}).get("given") == given or (name in known and was_given(name, given))
        if name in waiting or (done and not again):
            continue
        if name in known:
            dvc_words("exp", "remove", name)
        changes = [f"--set-param={change}" for change in given.split()]
        dvc_words("exp", "run", "--queue", "--name", name, *changes)
        typer.echo(name)


def on_their_way() -> set[str]:
    """Names of the queued or running experiments. Those of a killed queue stay "Running": see docs/ablation.md."""
    status = subprocess.run(["dvc", "queue", "status"], check=True, stdout=subprocess.PIPE, text=True).stdout
    lines = [line.split() for line in status.splitlines()]
    return {words[1] for words in lines if words and words[-1] in ("Queued", "Running")}


def was_given(name: str, given: str) -> bool:
    """Whether an experiment ran with these values, not with those of an earlier list."""
    from dvc.api import params_show

    params = params_show("params.yaml", rev=name)
    for key, text in (change.split("=", 1) for change in given.split()):
        value = params
        for part in key.split("."):
            value = value[part]
        if value != YAML(typ="safe").load(text):
            return False
    return True


def dvc_words(*arguments: str) -> list[str]:
    """The words printed by a `dvc` command."""
    return subprocess.run(["dvc", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout.split()


@app.command()
def collect() -> None:
    """Collect the figures of all finished rows into `benchmarks/ablation.csv`, and from there into the document.

    Their learning curves go into `benchmarks/ablation_curves.csv`, for `docs/plots.py`.
    """
    listed, rows, curves = read_list(), read_figures(), read_curves()
    finished = set(dvc_words("exp", "list", "--all-commits", "--name-only"))
    parts = [BEGIN]
    for group in listed["groups"]:
        measured: dict[str, Row] = {}
        for label, name, given in experiments(listed, group):
            if name in finished and was_given(name, given):
                try:
                    found, curves[name] = read_measured(name), read_curve(name)
                except FileNotFoundError as error:  # a release that kept its figures elsewhere
                    typer.echo(f"{name}: left out: {error}", err=True)
                    continue
                figures = {figure: show(found, figure) for figure in listed["figures"].values()}
                rows[name] = {"experiment": name, "given": given, **figures}
            if rows.get(name, {}).get("given") == given:
                measured[label] = rows[name]
        if measured:
            parts.append(f"### {group}\n\n{table(measured, listed['figures'])}")
    write_figures(rows, list(listed["figures"].values()))
    write_curves(curves)
    text = OUT.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    OUT.write_text(before + "\n\n".join([*parts, END]) + after, encoding="utf-8")
    typer.echo(f"{OUT}: {len(rows)} rows")


def table(measured: dict[str, Row], figures: dict[str, str]) -> str:
    """Experiments by label, names of figures by heading => a Markdown table: a column for each experiment."""
    lines = [["", *measured], ["---"] * (1 + len(measured))]
    lines += [[heading, *(row.get(name, "–") for row in measured.values())] for heading, name in figures.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def read_measured(name: str) -> dict[str, Any]:
    """All figures of an experiment's evaluation and of the last validation of its training."""
    import dvc.api

    texts = [dvc.api.read(path, rev=name) for path in ("reports/figures.json", "dvclive/metrics.json")]
    figures, trained = map(json.loads, texts)
    return figures | flatten(trained)


def read_curve(name: str) -> list[Row]:
    """The logged values of an experiment's training, one line each."""
    import dvc.api

    lines = []
    for figure in CURVE:
        text = dvc.api.read(f"dvclive/plots/metrics/{figure}.tsv", rev=name)
        for row in csv.DictReader(text.splitlines(), delimiter="\t"):
            lines.append(
                {"experiment": name, "figure": figure, "step": row["step"], "value": f"{float(row[figure]):.4g}"}
            )
    return lines


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values => values by dotted name, undoing DVCLive's nesting."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def read_figures() -> dict[str, Row]:
    """The lines of FIGURES by name; empty if the file does not exist yet."""
    if not FIGURES.is_file():
        return {}
    with FIGURES.open(encoding="utf-8", newline="") as file:
        return {row["experiment"]: row for row in csv.DictReader(file)}


def write_figures(rows: dict[str, Row], names: list[str]) -> None:
    """Replace FIGURES."""
    with FIGURES.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["experiment", "given", *names], extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows.values())


def read_curves() -> dict[str, list[Row]]:
    """The lines of CURVES by experiment; empty if the file does not exist yet."""
    curves: dict[str, list[Row]] = {}
    if CURVES.is_file():
        with CURVES.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                curves.setdefault(row["experiment"], []).append(row)
    return curves


def write_curves(curves: dict[str, list[Row]]) -> None:
    """Replace CURVES."""
    with CURVES.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["experiment", "figure", "step", "value"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for rows in curves.values() for row in rows)


def show(experiment: dict[str, Any], name: str) -> str:
    """A figure with its interval, if it has one."""
    middle, low, high = (experiment.get(name + suffix) for suffix in ("", ".ci_low", ".ci_high"))
    if middle is None:
        return "–"
    return f"{middle:.3g}" if low is None or high is None else f"{middle:.3g} ({low:.3g} … {high:.3g})"


if __name__ == "__main__":
    app()
