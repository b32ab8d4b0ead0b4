"""An evaluation, killed at three random moments of its writing and run again, gives the same result."""

import random
from pathlib import Path

from stage_settings import changed
from tiny_evaluation import SETTINGS, make_pipe
from touches import count_touches, kill

from fourdistill.evaluation.evaluate import Inputs, Outputs, evaluate

FEW = changed(SETTINGS, num_inference_steps=1, baselines=False, edits={"num": 0})


def run(base: Path, inputs: Inputs, folder: Path) -> None:
    outputs = Outputs(
        *(folder / name for name in ("metrics.json", "figures.json", "plots", "evaluation", "index.html"))
    )
    evaluate(make_pipe(base), inputs, outputs, FEW, seed=0)


def contents(folder: Path) -> dict[str, bytes]:
    """Contents of all files by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_killed_evaluation_gives_the_same_when_run_again(tiny_base, grid_scenes, features, tmp_path):
    inputs = Inputs(
        str(tiny_base),
        grid_scenes.frames_table,
        grid_scenes.frames,
        features,
        grid_scenes.pairs_table,
        grid_scenes.scenes_table,
    )
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    touched = count_touches(straight, run, tiny_base, inputs, straight)
    whole = contents(straight)
    assert {"metrics.json", "figures.json", "index.html", "plots/control.csv", "evaluation/pairs.csv"} <= whole.keys()
    draw, third, there = random.Random(0), touched // 3, []
    for part in range(3):  # twice during the report, then after it
        kill(killed, draw.randrange(part * third + 1, part * third + third), run, tiny_base, inputs, killed)
        files = {name: content for name, content in contents(killed).items() if ".partial" not in name}
        assert files.items() <= whole.items()  # each is complete, or absent under its name
        there.append(len(files))
    assert 0 < there[-1] < len(whole)
    run(tiny_base, inputs, killed)
    assert contents(killed) == whole
