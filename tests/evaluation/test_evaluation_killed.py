"""An evaluation killed at three drawn moments: run again, it gives what an unbroken one gives."""

import random
from dataclasses import replace
from pathlib import Path

from tiny_evaluation import SETTINGS, make_pipe
from touches import count_touches, kill

from fourdistill.evaluation.evaluate import Inputs, Outputs, evaluate

FEW = replace(SETTINGS, num_inference_steps=1, baselines=False, num_edits=0)


def run(base: Path, inputs: Inputs, folder: Path) -> None:
    outputs = Outputs(folder / "metrics.json", folder / "plots", folder / "evaluation", folder / "index.html")
    evaluate(make_pipe(base), inputs, outputs, FEW, seed=0)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by its name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_killed_evaluation_gives_the_same_when_run_again(tiny_base, grid_scenes, features, tmp_path):
    inputs = Inputs(str(tiny_base), grid_scenes.frames_table, grid_scenes.frames, features, grid_scenes.pairs_table)
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    touched = count_touches(straight, run, tiny_base, inputs, straight)
    whole = contents(straight)
    assert {"metrics.json", "index.html", "plots/control.csv", "evaluation/pairs.csv"} <= whole.keys()
    for moment in random.Random(0).sample(range(1, touched), 3):
        kill(killed, moment, run, tiny_base, inputs, killed)
        for name, content in contents(killed).items():  # the file is whole, or not under its name
            assert ".partial" in name or content == whole[name]
    run(tiny_base, inputs, killed)
    assert contents(killed) == whole
