"""Carry out commands with a pipeline, a batch at a time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from tqdm import tqdm

from fourdistill.data.features import open_image
from fourdistill.data.tables import FRAMES, read_table
from fourdistill.errors import InputError
from fourdistill.evaluation.commands import Command, FrameKey
from fourdistill.inference.pipeline import FourDistillPipeline


class FrameReader:
    """Pictures of the frames table by their key."""

    def __init__(self, frames_table: Path, frames_dir: Path):
        rows = read_table(frames_table, FRAMES, ["scene", "camera", "frame_index", "path"]).to_pylist()
        self._paths = {FrameKey(row["scene"], row["camera"], row["frame_index"]): row["path"] for row in rows}
        self._frames_table, self._frames_dir = frames_table, frames_dir

    def __call__(self, key: FrameKey) -> Image.Image:
        """One frame, RGB; raises `InputError` where the table does not have it or the file cannot be read."""
        if key not in self._paths:
            raise InputError(
                f"{self._frames_table}: expected frame {key.frame} of {key.scene}/{key.camera}, found none"
            )
        return open_image(self._frames_dir / self._paths[key])


def generate(
    pipe: FourDistillPipeline,
    commands: Sequence[Command],
    read: FrameReader,
    seeds: Sequence[int],
    *,
    num_inference_steps: int,
    guidance_scale: float,
    batch_size: int,
    description: str,
) -> list[Image.Image]:
    """One picture per command, of the base's own size; the prompt is the source's caption.

    Each image has its own seed, so that it depends neither on its batch nor on its place in the list.
    """
    pipe.set_progress_bar_config(disable=True)
    images: list[Image.Image] = []
    with tqdm(total=len(commands), desc=description, unit="image") as bar:
        for start in range(0, len(commands), batch_size):
            batch = commands[start : start + batch_size]
            images += pipe(
                image=[read(command.source) for command in batch],
                prompt=[command.caption or "" for command in batch],
                **command_arguments(batch, pipe.adapter.config.settings.view_encoding),
                generator=[torch.Generator().manual_seed(seed) for seed in seeds[start : start + batch_size]],
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
            ).images
            bar.update(len(batch))
    return images


def command_arguments(commands: Sequence[Command], view_encoding: str) -> dict[str, Any]:
    """The commanded displacements as the pipeline's arguments, in the form that the adapter was trained on."""
    arguments: dict[str, Any] = {"time": [command.time for command in commands]}
    if view_encoding == "matrix":
        poses = [command.relative_pose for command in commands]
        return arguments | {
            "relative_pose": [None if pose is None else torch.tensor(pose).view(3, 4) for pose in poses]
        }
    angles = [command.spherical or (None, None, None) for command in commands]
    return arguments | {name: [row[i] for row in angles] for i, name in enumerate(("azimuth", "elevation", "radius"))}


@torch.no_grad()
def reconstruct(pipe: FourDistillPipeline, images: Sequence[Image.Image], batch_size: int) -> list[Image.Image]:
    """The pictures through the base's VAE and back: no model that draws through it can come closer to them."""
    reconstructed: list[Image.Image] = []
    for start in range(0, len(images), batch_size):
        pixels = pipe.image_processor.preprocess(list(images[start : start + batch_size]))  # (B, 3, H, W) in [-1, 1]
        latents = pipe.vae.encode(pixels.to(pipe.device, pipe.vae.dtype)).latent_dist.mode()  # (B, C, h, w)
        decoded = pipe.vae.decode(latents).sample  # (B, 3, H, W)
        reconstructed += cast(list, pipe.image_processor.postprocess(decoded, output_type="pil"))
    return reconstructed
