"""Carry out commands with a pipeline, a batch at a time, and never the same one twice."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast
from zlib import crc32

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


class Painter:
    """Pictures for commands, all of the base's size; what was painted once is remembered.

    The noise of a picture depends on the seed and its source alone: what differs between two pictures from one source
    is what was commanded. The prompt is the source's caption.
    """

    def __init__(
        self,
        pipe: FourDistillPipeline,
        read_frame: FrameReader,
        *,
        num_inference_steps: int,
        guidance_scale: float,
        batch_size: int,
        seed: int,
    ):
        pipe.set_progress_bar_config(disable=True)
        self.pipe, self._read_frame, self.batch_size, self.seed = pipe, read_frame, batch_size, seed
        self.size = int(pipe.unet.config["sample_size"]) * pipe.vae_scale_factor
        self._sampling = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
        self._painted: dict[tuple, Image.Image] = {}

    def __call__(
        self,
        commands: Sequence[Command],
        description: str,
        *,
        lambda_: float | None = None,
        image_scale: float = 1.0,
    ) -> list[Image.Image]:
        """One picture per command, with a progress bar over those that are new."""

        def key(command: Command) -> tuple:
            displacement = (command.time, command.spherical, command.relative_pose)
            return (command.source, displacement, command.caption, lambda_, image_scale)

        todo = list({key(command): command for command in commands if key(command) not in self._painted}.values())
        with tqdm(total=len(todo), desc=description, unit="image") as bar:
            for start in range(0, len(todo), self.batch_size):
                batch = todo[start : start + self.batch_size]
                images = self.pipe(
                    image=[self.read(command.source) for command in batch],
                    prompt=[command.caption or "" for command in batch],
                    **command_arguments(batch, self.pipe.adapter.config.settings.view_encoding),
                    generator=[torch.Generator().manual_seed(self.noise_seed(command.source)) for command in batch],
                    lambda_=lambda_,
                    image_scale=image_scale,
                    **self._sampling,
                ).images
                self._painted |= {key(command): image for command, image in zip(batch, images, strict=True)}
                bar.update(len(batch))
        return [self._painted[key(command)] for command in commands]

    def noise_seed(self, source: FrameKey) -> int:
        """The seed of the noise that every picture from this source starts from."""
        return crc32(f"{self.seed}/{source.scene}/{source.camera}/{source.frame}".encode())

    def read(self, key: FrameKey) -> Image.Image:
        """A true frame at the size of the base's pictures."""
        frame, size = self._read_frame(key), (self.size, self.size)
        return frame if frame.size == size else frame.resize(size, Image.Resampling.LANCZOS)

    @torch.no_grad()
    def reconstruct(self, images: Sequence[Image.Image]) -> list[Image.Image]:
        """Pictures through the base's VAE and back: no model that draws through it can come closer to them."""
        pipe = self.pipe
        reconstructed: list[Image.Image] = []
        for start in range(0, len(images), self.batch_size):
            batch = list(images[start : start + self.batch_size])
            pixels = pipe.image_processor.preprocess(batch)  # (B, 3, H, W) in [-1, 1]
            latents = pipe.vae.encode(pixels.to(pipe.device, pipe.vae.dtype)).latent_dist.mode()  # (B, C, h, w)
            decoded = pipe.vae.decode(latents).sample  # (B, 3, H, W)
            reconstructed += cast(list, pipe.image_processor.postprocess(decoded, output_type="pil"))
        return reconstructed


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
