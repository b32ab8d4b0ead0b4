"""Write ten million pairs to Parquet: time and peak memory of `build_pairs`.

    python benchmarks/pairs.py --frames-table data/frames.parquet

Target: 60 s and 2 GiB. Memory is that of a separate process, imports included.
"""

import json
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer


def main(
    frames_table: Annotated[Path, typer.Option(help="A table of extract_frames.")] = Path("data/frames.parquet"),
    num_pairs: int = 10_000_000,
) -> None:
    """Print seconds, GiB and pairs per second as JSON."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        seconds, cpu_s, gib = pool.submit(build, frames_table, num_pairs).result()
    report = {"pairs": num_pairs, "seconds": seconds, "cpu_s": cpu_s, "peak_gib": gib}
    typer.echo(json.dumps(report | {"pairs_per_s": num_pairs / seconds}))


def build(frames_table: Path, num_pairs: int) -> tuple[float, float, float]:
    """Build the pairs in a temporary folder; returns seconds, CPU seconds, peak GiB."""
    from fourdistill.pairs.build import build_pairs
    from fourdistill.pairs.settings import NumPairs
    from fourdistill.params import load_params

    params = load_params()
    settings = replace(params.build_pairs, num_pairs=NumPairs(train=num_pairs, val=0, test=0))
    with tempfile.TemporaryDirectory() as folder:
        outputs = (Path(folder) / name for name in ("pairs.parquet", "pairs.json", "gaps.csv"))
        started, started_cpu = time.perf_counter(), time.process_time()
        build_pairs(
            frames_table,
            frames_table.with_name("scenes.parquet"),
            *outputs,
            settings,
            params.displacement,
            seed=params.seed,
        )
        seconds, cpu_s = time.perf_counter() - started, time.process_time() - started_cpu
    return seconds, cpu_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    typer.run(main)
