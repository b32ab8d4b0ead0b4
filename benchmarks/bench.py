"""All measurements of speed on the processor, one after another; `make bench` writes `benchmarks/results.md`.

    python benchmarks/bench.py --out benchmarks/results.md

At most half an hour on two quiet cores. Each part is one run of `train_step.py` or `generate.py`, in which contenders
alternate: only ratios within a run are compared. Documents quote this file alone.
"""

import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

FOLDER = Path(__file__).parent
SIZES = {"sd15": "SD 1.5-sized, 256 px", "base": "mini"}
CONTENDERS = {
    "unet": "a: bare U-Net, forward and backward to the conditioning",
    "unet_stored": "a′: the same, its weights stored in the format of the step",
    "step": "b: training step from cached features",
    "pixels": "c: training step from pixels",
    "original": "d: the original's recipe, fp32",
}
REACH = {
    ("step", "unet", "sd15"): "≤ 1.10", ("step", "unet", "base"): "≤ 1.15", ("original", "step", "sd15"): "≥ 3",
}  # fmt: skip


def main(
    out: Annotated[Path, typer.Option(help="The tables.")] = FOLDER / "results.md",
    rounds: Annotated[int, typer.Option(help="Of the SD 1.5-sized parts; mini's have three times as many.")] = 3,
    beside: Annotated[str, typer.Option(help="What else the machine did, for the record.")] = "nothing else",
) -> None:
    """Run every part and write the tables."""
    started = time.monotonic()
    large = ["--size", "sd15", "--batch-size", "2", "--rounds", str(rounds), "--all"]
    small = ["--batch-size", "32", "--rounds", str(3 * rounds)]
    parts = [(small, "no"), (small, "bf16"), (large, "no"), (large, "bf16")]
    steps = [run_part("train_step.py", *options, "--precision", precision) for options, precision in parts]
    made = [
        run_part("generate.py", "--size", "mini", "--steps", "10", "--batch-size", "4", "--rounds", str(rounds)),
        run_part("generate.py", "--size", "sd15", "--steps", "3", "--batch-size", "1", "--rounds", "2"),
    ]
    lines = [*describe(rounds, beside), *step_tables(steps), *generation_table(made)]
    lines += ["", f"All parts together took {(time.monotonic() - started) / 60:.0f} minutes.", ""]
    out.write_text("\n".join(lines), encoding="utf-8")
    typer.echo(f"bench: wrote {out}")


def run_part(script: str, *options: str) -> dict[str, Any]:
    """The JSON that a benchmark prints, or what it ended with."""
    typer.echo(f"bench: {script} {' '.join(options)}", err=True)
    command = [sys.executable, str(FOLDER / script), *options]
    done = subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise typer.BadParameter(f"{script} {' '.join(options)}: {done.stderr.strip().splitlines()[-1]}")
    facts = json.loads(done.stdout[done.stdout.index("{") :])
    typer.echo(json.dumps(facts), err=True)  # kept where a later part is interrupted
    return facts


def describe(rounds: int, beside: str) -> list[str]:
    """Machine, versions, and how to read the tables."""
    cpus = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers", "transformers"))
    machine = f"{os.cpu_count()} cores ({cpus[0] if cpus else platform.processor()})"
    return [
        "# Speed", "",
        f"Written by `make bench` on {machine}, beside {beside}: Python {platform.python_version()}, {versions}. The",
        f"load average at the end was {os.getloadavg()[1]:.1f}. Not measured on a GPU.", "",
        "In each table the contenders took turns in one run; seconds and ratios are medians of",
        f"{rounds} rounds, of mini {3 * rounds}. CPU seconds are of all threads and depend less on what else the",
        "machine did. The memory is the process's peak while one contender ran; the weights of all contenders of the",
        "table are part of it.", "",
    ]  # fmt: skip


def step_tables(parts: list[dict[str, Any]]) -> list[str]:
    """A table for every size and precision: seconds, memory, ratios."""
    lines = ["## Training step", ""]
    for facts in parts:
        size = facts["size"]
        precision = "fp32" if facts["precision"] == "no" else facts["precision"]
        lines += [f"### {SIZES[size]}, batch {facts['batch_size']}, {precision}", ""]
        lines += ["| | s | CPU s | peak GB |", "|---|---|---|---|"]
        for name, label in CONTENDERS.items():
            if f"{name}_clock_s" in facts:
                figures = (facts[f"{name}_{kind}"] for kind in ("clock_s", "cpu_s", "peak_gb"))
                lines.append(f"| {label} | {' | '.join(f'{figure:.2f}' for figure in figures)} |")
        lines += ["", "| ratio | clock | CPU | to reach |", "|---|---|---|---|"]
        for key in (key for key in facts if "_over_" in key and key.endswith("_clock")):
            first, second = key.removesuffix("_clock").split("_over_")
            letters = f"{CONTENDERS[first].split(':')[0]} / {CONTENDERS[second].split(':')[0]}"
            cpu = facts[key.removesuffix("clock") + "cpu"]
            lines.append(f"| {letters} | {facts[key]:.2f} | {cpu:.2f} | {REACH.get((first, second, size), '')} |")
        lines.append("")
    return lines


def generation_table(parts: list[dict[str, Any]]) -> list[str]:
    """Generation over stock diffusers, and the words of all layers at once over a pass each."""
    lines = ["## Generation, and v\\*", "", "| | mini | SD 1.5-sized | to reach |", "|---|---|---|---|"]

    def row(label: str, reach: str, *keys: str) -> str:
        values = [part[keys[0]][keys[1]] for part in parts]
        return f"| {label} | {' | '.join(f'{value:.2f}' for value in values)} | {reach} |"

    return [
        *lines,
        row("ours, s", "", "generation", "ours_s"),
        row("diffusers with the same image prompt, s", "", "generation", "stock_s"),
        row("ours over diffusers", "≤ 1.0", "generation", "ratio_ours_over_stock"),
        row("ours, peak GB", "", "generation", "ours_peak_gb"),
        row("diffusers, peak GB", "", "generation", "stock_peak_gb"),
        row("v\\* in one pass, s", "", "words", "one_pass_s"),
        row("v\\* with a pass each, s", "", "words", "pass_each_s"),
        row("times faster", "≥ 10", "words", "times_faster"),
    ]


if __name__ == "__main__":
    typer.run(main)
