"""The controls: what can be commanded, in which range, and how their values become a command."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from fourdistill.demo.artist import Command
from fourdistill.demo.dial import make_dial
from fourdistill.models.settings import Sampling

STEER = ("time", "camera")
MAX_SEED = 2**31 - 1


@dataclass(frozen=True)
class Controls:
    """The components that determine what is drawn."""

    time: gr.Slider
    azimuth: gr.HTML
    elevation: gr.Slider
    radius: gr.Slider
    steer: gr.CheckboxGroup
    prompt: gr.Textbox
    prompt_strength: gr.Slider
    guidance_scale: gr.Slider
    noise_scale: gr.Slider
    num_inference_steps: gr.Slider
    seed: gr.Number

    @property
    def all(self) -> list[Any]:
        """All of them, in the order of the page."""
        return list(vars(self).values())

    @property
    def changes(self) -> list[Any]:
        """The events of a change by the user."""
        # A textbox sends `input` for typed letters alone, not for what is pasted, cut or deleted.
        return [control.change if isinstance(control, gr.Textbox) else control.input for control in self.all]


def read_command(controls: Controls, given: Mapping[Any, Any]) -> Command:
    """Values by component => a command; what is not steered becomes None, so that the pipeline masks it."""
    values = {name: given[component] for name, component in vars(controls).items()}
    steer = values.pop("steer")
    if "time" not in steer:
        values["time"] = None
    if "camera" not in steer:
        values |= dict.fromkeys(("azimuth", "elevation", "radius"))
    values["num_inference_steps"] = int(values["num_inference_steps"])
    values["seed"] = int(values["seed"] or 0)
    return Command(**values)


def lay_out_dial() -> dict[str, Any]:
    """The camera's azimuth."""
    return {"azimuth": make_dial()}


def lay_out_time() -> dict[str, Any]:
    """The displacement in time."""
    return {
        "time": gr.Slider(-1, 1, 0, step=0.01, label="Time", info="share of the scene: below 0 earlier, above later")
    }


def lay_out_prompt() -> dict[str, Any]:
    """The text prompt and its strength."""
    strength = "As in the picture … as in the prompt"
    return {
        "prompt": gr.Textbox("", label="Prompt", info="other clothes, another person", max_length=300, lines=1),
        "prompt_strength": gr.Slider(0, 1, 1, step=0.05, label=strength, info="how much the prompt counts"),
    }


def lay_out_more(own: Sampling, num_inference_steps: int) -> dict[str, Any]:
    """The rest of the camera's displacement, what is steered, and the sampling, at first the adapter's `own`."""
    return {
        "elevation": gr.Slider(-45, 45, 0, step=1, label="Elevation, degrees", info="above 0 is up"),
        "radius": gr.Slider(0.5, 1.5, 1, step=0.01, label="Radius", info="times the distance; above 1 is farther"),
        "steer": gr.CheckboxGroup(
            list(STEER), value=list(STEER), label="Steer", info="what is off stays as in the picture"
        ),
        "guidance_scale": gr.Slider(
            1, 8, own.guidance_scale, step=0.1, label="Guidance", info="away from no condition; 1 is off"
        ),
        "noise_scale": gr.Slider(
            0, 1, own.noise_scale, step=0.05, label="Noise", info="less is more accurate, more differs more by seed"
        ),
        "num_inference_steps": gr.Slider(1, 100, num_inference_steps, step=1, label="Steps", info="more is slower"),
        "seed": gr.Number(0, label="Seed", info="same seed, same picture", precision=0, minimum=0, maximum=MAX_SEED),
    }
