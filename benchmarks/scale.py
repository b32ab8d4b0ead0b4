"""Cost of the data stages over the number of scenes: 1x, 4x, 16x, with the same number of pairs per scene.

    python benchmarks/scale.py --raw data/raw/mocap --base data/base/mini

The scenes are copies of one, so that all cost the same. Target: CPU seconds per scene within 10 % from 4x to 16x (1x
includes the fixed cost of a stage). Every stage runs in a separate process with one worker.
"""

import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

FACTORS = (1, 4, 16)
STAGES = ("extract_frames", "build_pairs", "encode_frames", "write_shards")


def main(
    raw: Annotated[Path, typer.Option(help="A folder of scenes in the format dynerf; the first one is taken.")] = Path(
        "data/raw/mocap"
    ),
    base: str = "data/base/mini",
    unit: Annotated[int, typer.Option(help="Scenes at 1x.")] = 1,
    pairs_per_scene: int = 2000,
    max_frames: Annotated[int, typer.Option(help="Frames of each video.")] = 16,
) -> None:
    """Print CPU seconds per scene of every stage at 1x, 4x, 16x, and the ratio of 16x to 4x, as JSON."""
    scene = min(path for path in raw.iterdir() if path.is_dir())
    context = multiprocessing.get_context("spawn")
    costs: dict[str, dict[int, float]] = {stage: {} for stage in STAGES}
    for factor in FACTORS:
        with tempfile.TemporaryDirectory() as name:
            folder, scenes = Path(name), unit * factor
            for number in range(scenes):
                shutil.copytree(scene, folder / "raw" / f"scene{number:04d}")
            for stage in STAGES:
                with ProcessPoolExecutor(1, mp_context=context) as pool:  # a separate process for each
                    run = pool.submit(run_stage, stage, folder, base, scenes * pairs_per_scene, max_frames)
                    costs[stage][factor] = run.result() / scenes
                typer.echo(f"{stage} {factor}x: {costs[stage][factor]:.3f} s a scene", err=True)
    growth = {stage: cost[FACTORS[2]] / cost[FACTORS[1]] for stage, cost in costs.items()}
    typer.echo(json.dumps({"cpu_s_per_scene": costs, "16x_over_4x": growth}))


def run_stage(stage: str, folder: Path, base: str, num_pairs: int, max_frames: int) -> float:
    """Run one stage in `folder`; returns its CPU seconds, children included."""
    from fourdistill.features.encode import FrameEncoder
    from fourdistill.features.files import encode_frames
    from fourdistill.frames.extract import extract_frames
    from fourdistill.pairs.build import build_pairs
    from fourdistill.pairs.settings import NumPairs
    from fourdistill.params import load_params
    from fourdistill.shards.write import write_shards
    from fourdistill.sources.readers import SourceFolder, read_source

    frames, table, pairs = folder / "frames", folder / "frames.parquet", folder / "pairs.parquet"
    params, encode, placed = load_params(), FrameEncoder(base), folder / "scenes.parquet"
    started = processor_s()
    if stage == "extract_frames":
        scenes = read_source(SourceFolder(folder / "raw", "dynerf"))
        settings = replace(params.extract_frames, max_frames=max_frames, jobs=1)
        extract_frames(scenes, frames, table, placed, folder / "frames.json", settings)
    elif stage == "build_pairs":
        settings = replace(params.build_pairs, num_pairs=NumPairs(train=num_pairs, val=0, test=0))
        reports = (folder / "pairs.json", folder / "gaps.csv")
        build_pairs(table, placed, pairs, *reports, settings, params.displacement, seed=params.seed)
    elif stage == "encode_frames":
        encode_frames(table, frames, folder / "features", encode, replace(params.encode_frames, jobs=1))
    else:
        write_shards(
            pairs, frames, folder / "features", folder / "shards", replace(params.write_shards, max_pairs=None, jobs=1)
        )
    return processor_s() - started


def processor_s() -> float:
    """CPU seconds of this process and of its finished children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    typer.run(main)
