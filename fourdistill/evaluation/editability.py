"""What does a prompt say, and is the command still carried out? Editability, fidelity and control, setting by setting.

Held-out commands are carried out with another scene's caption for their prompt. `clip_t` is the cosine of generated
picture and prompt (editability), `clip_i` that of generated and true picture (fidelity): what raises the one tends to
lower the other, and the plot of both is what a setting should be chosen by. `time_frames` and `azimuth_deg` are the
control that is left: how far from the commanded cell the picture is found among all true frames of its scene, as those
of sweeps are, by VAE latents. The true frames wear other clothes; what is found is who stands as they stand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional as F

from fourdistill.evaluation.metrics.cells import Cells
from fourdistill.evaluation.metrics.feature_spaces import FeatureSpaces
from fourdistill.evaluation.protocol.command import Command
from fourdistill.evaluation.systems.generate import Painter
from fourdistill.inference.pipeline import FourDistillPipeline
from fourdistill.inference.prompting import lambdas_of, text_guidance_of

TEXT_PROJECTION = "clip_projection/model.safetensors"
SPACE = "latents"  # in which pictures are looked up
STRENGTHS = {0.0: "as pictured", 0.5: "half", 1.0: "as in the prompt"}  # their names


@dataclass(frozen=True)
class EditSetting:
    """The two weights that decide how much a prompt says; see `inference.prompting`."""

    lambda_: float
    text_guidance: float


@dataclass(frozen=True)
class Edited:
    """What N edits led to at one setting."""

    setting: EditSetting
    name: str
    images: list[Image.Image]
    scores: dict[str, np.ndarray]
    """`clip_t`, `clip_i`, `time_frames`, `azimuth_deg` (N,); the last is NaN where a pose is unknown."""


@dataclass(frozen=True)
class Edits:
    """Commands with other prompts, and what they led to at every setting; both empty where there are none."""

    commands: list[Command]
    tried: list[Edited]
    own_lambda: float
    """Of the adapter."""

    def figures(self) -> dict[str, dict[str, np.ndarray]]:
        """The scores of the settings that have figures, by the prefix of these."""
        settings = {
            "": at_strength(1, self.own_lambda),
            "as_pictured.": at_strength(0, self.own_lambda),
            "lambda_0.": at_lambda(0.0, self.own_lambda),
            "own_lambda.": at_lambda(self.own_lambda, self.own_lambda),
        }
        return {prefix: edited.scores for prefix, edited in self._tried(settings).items()}

    def pictures(self, strengths: Sequence[float]) -> dict[str, list[Image.Image]]:
        """The pictures at some strengths, by their names."""
        return {name: edited.images for name, edited in self._tried(by_strength(strengths, self.own_lambda)).items()}

    def _tried(self, settings: Mapping[str, EditSetting]) -> dict[str, Edited]:
        found = {edited.setting: edited for edited in self.tried}
        return {name: found[setting] for name, setting in settings.items() if setting in found}


class CaptionEncoder:
    """Captions in the space of the base's image encoder; only a base that brings CLIP's text projection has one."""

    def __init__(self, pipe: FourDistillPipeline, projection: torch.Tensor):
        self.pipe, self.projection = pipe, projection.float().to(pipe.device)

    @classmethod
    def from_base(cls, pipe: FourDistillPipeline, base: str) -> "CaptionEncoder | None":
        """The encoder of a local base with a `clip_projection/`; None for others, whose two towers may not match."""
        path = Path(base) / TEXT_PROJECTION
        return cls(pipe, load_file(path)["text_projection.weight"]) if path.is_file() else None

    @torch.no_grad()
    def __call__(self, captions: Sequence[str]) -> np.ndarray:
        """N captions => unit vectors (N, P) float32."""
        tokens = self.pipe.tokenizer(list(captions), padding="max_length", truncation=True, return_tensors="pt")
        pooled = self.pipe.text_encoder(input_ids=tokens.input_ids.to(self.pipe.device)).pooler_output  # (N, D)
        return F.normalize(pooled.float() @ self.projection.T, dim=-1).cpu().numpy()


def choose_edits(
    commands: Sequence[Command], captions: Sequence[str], num_edits: int, rng: np.random.Generator
) -> list[Command]:
    """Random commands of every scene in turn, each with one of `captions` for its prompt that is not its own.

    Only those that change time and view at once are taken, where there are any. Empty without captions.
    """
    captioned = [command for command in commands if command.caption]
    captioned = [command for command in captioned if command.kind == "joint"] or captioned
    if len(set(captions)) < 2:
        return []
    of_scene: dict[str, list[Command]] = {}
    for i in rng.permutation(len(captioned)):
        of_scene.setdefault(captioned[i].source.scene, []).append(captioned[i])
    in_turn = [command for turn in zip_longest(*of_scene.values()) for command in turn if command is not None]
    edits = []
    for command in in_turn[:num_edits]:
        others = sorted(set(captions) - {command.caption})
        edits.append(replace(command, caption=others[rng.integers(len(others))]))
    return edits


def at_strength(strength: float, own_lambda: float) -> EditSetting:
    """What a prompt's strength decides, for an adapter with a lambda of its own."""
    prompts = ["any"]
    lambda_ = lambdas_of(prompts, strength, own_lambda).item()
    return EditSetting(round(lambda_, 6), round(text_guidance_of(prompts, strength), 6))


def at_lambda(lambda_: float, own_lambda: float) -> EditSetting:
    """Another lambda under the guidance of a prompt at full strength."""
    return replace(at_strength(1, own_lambda), lambda_=lambda_)


def by_strength(strengths: Sequence[float], own_lambda: float) -> dict[str, EditSetting]:
    """The settings of some strengths, by name."""
    return {STRENGTHS.get(s, f"strength {s:g}"): at_strength(s, own_lambda) for s in strengths}


def by_lambda(lambdas: Sequence[float], own_lambda: float) -> dict[str, EditSetting]:
    """The adapter's own lambda and others, by name."""
    return {f"lambda {lambda_:g}": at_lambda(lambda_, own_lambda) for lambda_ in (own_lambda, *lambdas)}


def score_edits(
    paint: Painter,
    spaces: FeatureSpaces,
    encode: CaptionEncoder,
    edits: Sequence[Command],
    cells: Cells,
    strengths: Sequence[float],
    lambdas: Sequence[float],
) -> Edits:
    """Carry out the edits at every strength, then at every lambda; what is both is done once, under its first name."""
    own_lambda = paint.pipe.adapter.config.settings.lambda_
    settings = [*by_strength(strengths, own_lambda).items(), *by_lambda(lambdas, own_lambda).items()]
    prompts = encode([command.caption or "" for command in edits])  # (N, P)
    truth = spaces([paint.read(command.target) for command in edits], len(edits), "features, truth of edits")["clip"]
    tried: dict[EditSetting, Edited] = {}
    for name, setting in settings:
        if setting in tried:
            continue
        weights = {"lambda_": setting.lambda_, "text_guidance": setting.text_guidance}
        images = paint(edits, f"edits, {name}", **weights)
        found = spaces(images, len(images), f"features, edits, {name}")
        place = cells.locate(edits, found[SPACE], SPACE)
        tried[setting] = Edited(
            setting,
            name,
            images,
            {
                "clip_t": (found["clip"] * prompts).sum(1),
                "clip_i": (found["clip"] * truth).sum(1),
                "time_frames": np.abs(place.frames),
                "azimuth_deg": np.abs(place.azimuth),
            },
        )
    return Edits(list(edits), list(tried.values()), own_lambda)
