"""Carry out commands with a pipeline, in batches; repeated commands are generated once."""

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from fourdistill.evaluation.protocol.command import Command, FrameKey
from fourdistill.evaluation.protocol.frames import FrameReader
from fourdistill.geometry.displacement import Displacement
from fourdistill.inference.pipeline import FourDistillPipeline


class Painter:
    """Generates images for commands, all of the base's size, and caches them.

    The noise of an image depends only on the seed and its source. Two images from one source therefore differ only
    because of their commands. The prompt is the source's caption.
    """

    def __init__(
        self,
        pipe: FourDistillPipeline,
        read: FrameReader,
        *,
        batch_size: int,
        seed: int,
        **sampling: Any,
    ):
        """`sampling`: the pipeline's arguments shared by all images, such as `guidance_scale`.

        By default prompts have strength 0, because an image's own caption requests no change.
        """
        pipe.set_progress_bar_config(disable=True)
        self.pipe, self.read, self.batch_size, self.seed = pipe, read, batch_size, seed
        self._sampling = {"prompt_strength": 0.0, **sampling}
        self._painted: dict[tuple, Image.Image] = {}

    def __call__(self, commands: Sequence[Command], description: str, **changed: Any) -> list[Image.Image]:
        """One image per command, with a progress bar over the new ones.

        `changed`: arguments of the pipeline that override the shared ones.
        """
        sampling = self._sampling | changed

        def key(command: Command) -> tuple:
            return (command.source, command.displacement, command.caption, frozenset(sampling.items()))

        todo = list({key(command): command for command in commands if key(command) not in self._painted}.values())
        with tqdm(total=len(todo), desc=description, unit="image") as bar:
            for start in range(0, len(todo), self.batch_size):
                batch = todo[start : start + self.batch_size]
                images = self.pipe(
                    image=[self.read(command.source) for command in batch],
                    prompt=[command.caption or "" for command in batch],
                    displacement=Displacement.merge([command.displacement for command in batch], np.stack),
                    generator=[torch.Generator().manual_seed(self.noise_seed(command.source)) for command in batch],
                    **sampling,
                ).images
                self._painted |= {key(command): image for command, image in zip(batch, images, strict=True)}
                bar.update(len(batch))
        return [self._painted[key(command)] for command in commands]

    def noise_seed(self, source: FrameKey) -> int:
        """The seed of the initial noise of every image from this source."""
        return crc32(f"{self.seed}/{source.scene}/{source.camera}/{source.frame}".encode())
