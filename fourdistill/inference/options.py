"""Validated sampling options, the same for all images of a call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

from fourdistill.errors import InputError
from fourdistill.inference.guidance import Guidance
from fourdistill.models.adapter import CARRIERS

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
CALLBACK_TENSORS = ["latents", "noise_pred", "prompt_embeds"]  # a callback may replace the first and the last


@dataclass(frozen=True)
class StepEnd:
    """A diffusers callback at the end of each step, and the names of the tensors that it requests."""

    function: Callable[..., dict[str, Any]]
    tensor_inputs: Sequence[str]

    def __post_init__(self):
        # diffusers' own callbacks declare what they need
        if isinstance(self.function, (PipelineCallback, MultiPipelineCallbacks)):
            object.__setattr__(self, "tensor_inputs", self.function.tensor_inputs)
        for name in self.tensor_inputs:
            if name not in CALLBACK_TENSORS:
                raise InputError(
                    f"callback_on_step_end_tensor_inputs: expected of {', '.join(CALLBACK_TENSORS)}, got {name!r}"
                )

    def __call__(self, pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        """The tensors after a step, with those in their place that the callback returns."""
        asked = {name: tensors[name] for name in self.tensor_inputs}
        return tensors | self.function(pipe, step, timestep, asked)


@dataclass(frozen=True)
class SamplingOptions:
    """The pipeline's arguments of these names; raises `InputError` if one is out of range."""

    guidance: Guidance
    guidance_rescale: float
    noise_scale: float
    image_scale: float
    prompt_strength: float
    lambda_: float | None
    carrier: str
    num_inference_steps: int
    num_images_per_prompt: int
    batch_size: int | None
    output_type: str
    step_end: StepEnd | None

    def __post_init__(self):
        for name in ("num_inference_steps", "num_images_per_prompt", "batch_size"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and value >= 1):
                raise InputError(f"{name}: expected a whole number from 1, got {value!r}")
        if self.output_type not in OUTPUT_TYPES:
            raise InputError(f"output_type: expected one of {', '.join(OUTPUT_TYPES)}, got {self.output_type!r}")
        if self.carrier not in CARRIERS:
            raise InputError(f"carrier: expected one of {', '.join(CARRIERS)}, got {self.carrier!r}")
        if not 0 <= self.guidance_rescale <= 1:
            raise InputError(f"guidance_rescale: expected 0 to 1, got {self.guidance_rescale}")
        if not 0 <= self.noise_scale <= 1:
            raise InputError(f"noise_scale: expected 0 to 1, got {self.noise_scale}")
        for name in ("image_scale", "lambda_"):
            value = getattr(self, name)
            if value is not None and not abs(value) < float("inf"):
                raise InputError(f"{name}: expected a finite number, got {value}")
