"""Frame extraction against the bare ffmpeg command that does the same work, its scaling over films, and its memory.

    python benchmarks/extract.py             # all three; about three minutes

Every figure is a ratio of runs that took turns in one call, the best of `--repeats` each. The film is 1280x720, H.264,
moving test pattern with noise, made by ffmpeg on the spot.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import joblib
import typer

from fourdistill.frames.extract import extract_frames
from fourdistill.params import load_params
from fourdistill.sources.readers import SourceFolder, read_source
from fourdistill.video.jpegs import find_ffmpeg

SIZE = 128  # pixels of the frames


def make_film(path: Path, seconds: float) -> None:
    """A 720p film of 30 frames a second."""
    source = f"testsrc2=size=1280x720:rate=30:duration={seconds},noise=alls=8:allf=t:all_seed=1"
    arguments = ["-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", "veryfast", "-crf", "20"]
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([find_ffmpeg(None), "-loglevel", "error", "-y", *arguments, str(path)], check=True)


def extract(raw: Path, out: Path, jobs: int) -> None:
    """The stage's function on a folder of films."""
    shutil.rmtree(out, ignore_errors=True)
    scenes = read_source(SourceFolder(raw, "video"))
    settings = replace(load_params().extract_frames, size=SIZE, jobs=jobs)
    extract_frames(
        scenes, out / "frames", out / "frames.parquet", out / "scenes.parquet", out / "frames.json", settings
    )


def bare_ffmpeg(film: Path, out: Path) -> None:
    """What a shell script would do: the same crop, size, quality and layout of chroma, the same number of threads."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    threads = ["-threads", str(joblib.cpu_count())]
    filters = f"crop=720:720,scale={SIZE}:{SIZE}:flags=bicubic+accurate_rnd+full_chroma_int:out_range=pc"
    output = ["-vf", filters, "-pix_fmt", "yuvj444p", "-q:v", "2", "-fps_mode", "passthrough", str(out / "%06d.jpg")]
    subprocess.run([find_ffmpeg(None), "-loglevel", "error", *threads, "-i", str(film), *threads, *output], check=True)


def best_of(repeats: int, *runs: Callable[[], object]) -> list[float]:
    """Seconds of the fastest of several turns of each run."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats):
        for run, taken in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            taken.append(time.perf_counter() - start)
    return [min(taken) for taken in times]


def in_process(arguments: list[str], cores: int) -> int:
    """Run this script again on so many cores; returns the peak memory of it and its children in MiB."""
    chosen = ",".join(map(str, sorted(os.sched_getaffinity(0))[:cores]))
    code = (
        "import os, resource, runpy, sys; "
        f"os.sched_setaffinity(0, {{{chosen}}}); "
        f"sys.argv = {[__file__, *arguments]!r}; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


def main(
    repeats: Annotated[int, typer.Option(help="Turns of each run.")] = 3,
    seconds: Annotated[float, typer.Option(help="Length of the film.")] = 20.0,
    once: Annotated[Path | None, typer.Option(help="Only extract this folder once, and print the peak memory.")] = None,
) -> None:
    """Print the three figures beside what is to be reached."""
    if once:
        extract(once, once.parent / "out", jobs=-1)
        peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        typer.echo(sum(peaks) // 1024)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        film = root / "one" / "film.mp4"
        make_film(film, seconds)
        ours, bare = best_of(
            repeats, lambda: extract(film.parent, root / "out", jobs=1), lambda: bare_ffmpeg(film, root / "bare")
        )
        num = len(list((root / "bare").iterdir()))
        typer.echo(f"one film of {num} frames: {ours:.2f} s, ffmpeg {bare:.2f} s: {ours / bare:.3f} x (reach 1.05)")

        for number in range(8):
            (root / "eight").mkdir(exist_ok=True)
            shutil.copy(film, root / "eight" / f"film{number}.mp4")
        arguments = ["--once", str(root / "eight")]
        one, two = best_of(repeats, lambda: in_process(arguments, 1), lambda: in_process(arguments, 2))
        typer.echo(f"eight films: one core {one:.2f} s, two cores {two:.2f} s: {one / two:.2f} x (reach 1.8)")

        make_film(root / "long" / "film.mp4", 4 * seconds)
        short_mib, long_mib = (in_process(["--once", str(path)], 2) for path in (film.parent, root / "long"))
        typer.echo(f"peak memory: {short_mib} MiB, of a film four times as long {long_mib} MiB")


if __name__ == "__main__":
    typer.run(main)
