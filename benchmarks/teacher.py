"""The teacher on shipped scenes: its quality for a held-out camera, and its cost.

    OMP_NUM_THREADS=1 python benchmarks/teacher.py --scenes scene016_walk,scene015_backflip

Target, with 7 of 8 cameras at 128 pixels: 28 dB over the picture, 23 over the figure's box, 5 core-minutes per scene,
0.15 s per frame. Minutes are CPU time. Frames are extracted into a temporary folder.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from fourdistill.frames.extract import extract_frames
from fourdistill.params import load_params
from fourdistill.scene import Scene
from fourdistill.sources.readers import SourceFolder, read_source
from fourdistill.teacher.fit import fit_reconstruction
from fourdistill.teacher.gate import judge, score_camera, score_nearest
from fourdistill.teacher.scene_images import SceneImages, read_scene
from fourdistill.teacher.settings import Splatting
from fourdistill.teacher.splats.fit_splats import fit_splats
from fourdistill.teacher.splats.rasterizer import gsplat_rasterizer


def extracted(scene: Scene, folder: Path) -> SceneImages:
    """The scene's frames at 128 pixels."""
    frames, table, placed, report = (
        folder / name for name in ("frames", "frames.parquet", "scenes.parquet", "frames.json")
    )
    extract_frames([scene], frames, table, placed, report, replace(load_params().extract_frames, size=128, jobs=1))
    return read_scene(frames, table, scene.name)


def measure(scene: SceneImages, camera: str, num_cameras: int, passes: int | None, representation: str) -> str:
    """A row of the table."""
    step = max(1, len(scene.cameras) // num_cameras)
    scene = scene.without(sorted(set(scene.cameras) - {camera, *scene.cameras[::step]}))
    params, others = load_params(), scene.without([camera])
    is_splats = representation == "gsplat"
    settings = params.reconstruct.splats if is_splats else params.reconstruct.fit
    settings = settings if passes is None else replace(settings, passes=passes)
    started = time.process_time()
    if isinstance(settings, Splatting):
        teacher = fit_splats(others, settings, params.seed, gsplat_rasterizer(), quiet=True)
    else:
        teacher = fit_reconstruction(others, settings, params.seed, quiet=True)
    fitted = time.process_time()
    score = score_camera(teacher, teacher.backdrop, scene, camera)
    frame_s = (time.process_time() - fitted) / len(scene.times)
    nearest = score_nearest(teacher.backdrop, scene, camera)
    verdict = judge(score, nearest, params.reconstruct.gate)
    scores = f"{score.picture:.1f} / {score.box:.1f} | {nearest.picture:.1f} / {nearest.box:.1f}"
    return (
        f"{scores} | {(fitted - started) / 60:.1f} | {frame_s:.2f} | {'yes' if verdict.may_teach else verdict.reason}"
    )


def main(
    scenes: Annotated[str, typer.Option(help="Names, with commas between.")] = "scene016_walk,scene015_backflip",
    camera: Annotated[str, typer.Option(help="Which camera is held out.")] = "cam03",
    cameras: Annotated[int, typer.Option(help="Of the 8; the held-out one counts only if it is among them.")] = 8,
    passes: Annotated[int | None, typer.Option(help="Over all instants; those of params.yaml.")] = None,
    representation: Annotated[str, typer.Option(help="kplanes, or gsplat on a CUDA device.")] = "kplanes",
    raw: Annotated[Path, typer.Option(help="A folder in the dynerf layout.")] = Path("data/raw/mocap"),
) -> None:
    """Print the table, with PSNR in dB over picture / figure's box."""
    torch.set_num_threads(1)
    typer.echo("| scene | teacher | nearest camera | fit, min | a frame, s | may teach |\n|---|---|---|---|---|---|")
    for scene in read_source(SourceFolder(raw, "dynerf")):
        if scene.name in scenes.split(","):
            with tempfile.TemporaryDirectory() as folder:
                images = extracted(scene, Path(folder))
                typer.echo(f"| {scene.name} | {measure(images, camera, cameras, passes, representation)} |")


if __name__ == "__main__":
    typer.run(main)
