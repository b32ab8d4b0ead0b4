"""The ablation: queue the rows of `benchmarks/ablation.yaml` as DVC experiments, and collect them into one document."""

import re
import subprocess
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

LIST = Path(__file__).with_suffix(".yaml")
OUT = Path("docs/ablation.md")
BEGIN, END = "<!-- figures, by `python benchmarks/ablation.py collect` -->", "<!-- end of figures -->"
app = typer.Typer(no_args_is_help=True)


def read_list() -> dict[str, Any]:
    """The committed list: figures, what all rows have in common, groups of rows, seeds."""
    return YAML(typ="safe").load(LIST.read_text(encoding="utf-8"))


def experiment_name(row: str, seed: int) -> str:
    """The name that DVC knows a row by."""
    return f"ablation-{re.sub('[^a-z0-9]+', '-', row.lower()).strip('-')}-seed{seed}"


def overrides(values: dict[str, Any], prefix: str = "") -> list[str]:
    """Nested values as what `dvc exp run -S` takes."""
    flat = []
    for name, value in values.items():
        if isinstance(value, dict):
            flat += overrides(value, f"{prefix}{name}.")
        else:
            text = str(value).replace("'", "").replace(" ", "") if isinstance(value, list) else str(value)
            flat.append(f"{prefix}{name}={text.lower() if isinstance(value, bool) else text}")
    return flat


@app.command()
def queue(again: Annotated[bool, typer.Option(help="Run finished rows again, too.")] = False) -> None:
    """Queue every row that is not among the experiments of this repository yet."""
    listed, known = read_list(), dvc_lines("exp", "list", "--all-commits", "--name-only")
    for rows in listed["groups"].values():
        for row, values in rows.items():
            for seed in [0, *listed["seeds"].get(row, [])]:
                name = experiment_name(row, seed)
                if name in known and not again:
                    continue
                if name in known:
                    dvc_lines("exp", "remove", name)
                changes = [*overrides(listed["common"]), *overrides(values), f"seed={seed}"]
                dvc_lines("exp", "run", "--queue", "--name", name, *[f"--set-param={change}" for change in changes])
                typer.echo(name)


def dvc_lines(*arguments: str) -> list[str]:
    """What `dvc` prints, line by line."""
    return subprocess.run(["dvc", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout.split()


@app.command()
def collect() -> None:
    """Put the figures of all finished rows, with their intervals, into the document as tables; its text stays."""
    from dvc.api import exp_show

    listed, found = read_list(), {row["Experiment"]: row for row in exp_show(num=-1)}
    parts = [BEGIN]
    for group, rows in listed["groups"].items():
        header = ["", *listed["figures"]]
        lines = [" | ".join(header), " | ".join(["---"] * len(header))]
        for row in rows:
            for seed in [0, *listed["seeds"].get(row, [])]:
                if (experiment := found.get(experiment_name(row, seed))) is not None:
                    cells = [figure(experiment, name) for name in listed["figures"].values()]
                    lines.append(" | ".join([f"{row}, seed {seed}" if seed else row, *cells]))
        parts.append(f"## {group}\n\n" + "\n".join(f"| {line} |" for line in lines))
    text = OUT.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    OUT.write_text(before + "\n\n".join([*parts, END]) + after, encoding="utf-8")
    typer.echo(OUT)


def figure(experiment: dict[str, Any], name: str) -> str:
    """A figure with its interval, if it has one; whichever metrics file it is in."""

    def value(name: str) -> float | None:
        matches = [v for key, v in experiment.items() if key == name or key.endswith(f":{name}")]
        return matches[0] if matches and isinstance(matches[0], (int, float)) else None

    middle, low, high = (value(name + suffix) for suffix in ("", ".ci_low", ".ci_high"))
    if middle is None:
        return "–"
    return f"{middle:.3g}" if low is None or high is None else f"{middle:.3g} ({low:.3g} … {high:.3g})"


if __name__ == "__main__":
    app()
