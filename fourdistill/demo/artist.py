"""What the page asks of the pipeline, one request after the other: pictures, with progress, until told to stop."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image

from fourdistill.inference.pipeline import FourDistillPipeline


class Stopped(Exception):
    """The drawing was given up before it was finished: nobody waits for it any more."""


@dataclass(frozen=True)
class Command:
    """What is to be drawn: arguments of the pipeline under their own names, and a seed."""

    time: float | None = 0.0
    azimuth: float | None = 0.0
    elevation: float | None = 0.0
    radius: float | None = 1.0
    prompt: str = ""
    lambda_: float | None = None
    guidance_scale: float = 1.0
    image_scale: float = 1.0
    num_inference_steps: int = 20
    seed: int = 0


class Artist:
    """A pipeline that several people draw with, one after the other: its scheduler knows one drawing at a time."""

    def __init__(self, pipe: FourDistillPipeline):
        self.pipe = pipe
        pipe.set_progress_bar_config(disable=True)
        self._turn = threading.Lock()

    @property
    def default_lambda(self) -> float:
        """The adapter's own lambda."""
        return self.pipe.adapter.config.settings.lambda_

    def look_at(self, image: Image.Image) -> torch.Tensor:
        """A condition image => all that drawings need of it, its embeddings (1, S, D)."""
        with self._turn:
            return self.pipe.encode_image([image])

    def draw(
        self,
        image_embeds: torch.Tensor,
        commands: Sequence[Command],
        progress: Callable[[int, int], object],
        stop: threading.Event,
    ) -> list[Image.Image]:
        """One picture a command, each as the pipeline draws it alone; `progress` takes (steps done, steps in all).

        Raises `Stopped` at the first step after `stop` is set, and `InputError` as the pipeline does.
        """
        images: list[Image.Image] = []
        done, total = 0, sum(command.num_inference_steps for command in commands)

        def after_step(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
            nonlocal done
            done += 1
            progress(done, total)
            if stop.is_set():
                raise Stopped
            return kwargs

        with self._turn:
            for command in commands:
                if stop.is_set():
                    raise Stopped
                given = vars(command).copy()
                generator = torch.Generator().manual_seed(given.pop("seed"))
                images += self.pipe(
                    image_embeds=image_embeds, generator=generator, callback_on_step_end=after_step, **given
                ).images
        return images


def sweep(command: Command, times: Sequence[float | None], azimuths: Sequence[float | None]) -> list[list[Command]]:
    """One row a time, one command an azimuth; all else is as in `command`, the seed too."""
    return [[replace(command, time=time, azimuth=azimuth) for azimuth in azimuths] for time in times]
