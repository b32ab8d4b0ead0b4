"""Runs the pipeline for the page: one request at a time, with progress, and stoppable."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from fourdistill.inference.pipeline import FourDistillPipeline

BATCH_SIZE = 8  # frames sampled at a time


class Stopped(Exception):
    """The drawing was cancelled before it was finished."""


@dataclass(frozen=True)
class Command:
    """What to draw: arguments of the pipeline, under the same names, and a seed."""

    time: float | None = 0.0
    azimuth: float | None = 0.0
    elevation: float | None = 0.0
    radius: float | None = 1.0
    prompt: str = ""
    prompt_strength: float = 1.0
    guidance_scale: float | None = None  # None, here and below: the adapter's own
    noise_scale: float | None = None
    num_inference_steps: int = 20
    seed: int = 0


class Artist:
    """A pipeline shared by several users. A lock allows one drawing at a time, since the scheduler holds its state."""

    def __init__(self, pipe: FourDistillPipeline):
        self.pipe = pipe
        pipe.set_progress_bar_config(disable=True)
        self._turn = threading.Lock()

    def look_at(self, image: Image.Image) -> torch.Tensor:
        """A condition image => its embeddings (1, S, D), which are all that drawings need."""
        with self._turn:
            return self.pipe.encode_image([image])

    def draw(
        self,
        image_embeds: torch.Tensor,
        command: Command,
        progress: Callable[[int, int], object],
        stop: threading.Event,
        *,
        frames: Sequence[tuple[float | None, float | None]] | None = None,
    ) -> list[Image.Image]:
        """One picture for each (time, azimuth) in `frames`, all from the same noise; None: only the command's own.

        `progress` takes (steps done, total steps). Raises `Stopped` at the first step after `stop` is set, and the
        pipeline's `InputError`.
        """

        def after_step(pipe: FourDistillPipeline, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            progress(step + 1, pipe.num_timesteps)
            if stop.is_set():
                raise Stopped
            return tensors

        times, azimuths = zip(*(frames or [(command.time, command.azimuth)]), strict=True)
        with self._turn:
            if stop.is_set():
                raise Stopped
            drawn = self.pipe(
                image_embeds=image_embeds,
                time=times,
                azimuth=azimuths,
                elevation=command.elevation,
                radius=command.radius,
                prompt=command.prompt,
                prompt_strength=command.prompt_strength,
                guidance_scale=command.guidance_scale,
                noise_scale=command.noise_scale,
                num_inference_steps=command.num_inference_steps,
                seed=command.seed,
                batch_size=BATCH_SIZE,
                callback_on_step_end=after_step,
            )
        return list(drawn.images)
