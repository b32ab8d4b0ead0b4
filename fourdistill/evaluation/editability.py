"""Does the image follow the prompt, and is the command still carried out? Editability, fidelity, control by setting.

Held-out commands are carried out with another scene's caption as the prompt. `clip_t` is the cosine of generated image
and prompt (editability), `clip_i` that of generated and true image (fidelity). What raises one tends to lower the
other, so a setting should be chosen from the plot of both. `time_frames` and `azimuth_deg` measure the remaining
control: how far from the commanded cell the image is located among all true frames of its scene, in VAE latents as for
sweeps. The true frames show other clothes, so images are matched by the figure's posture.
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
SPACE = "latents"  # in which images are located
STRENGTHS = {0.0: "as pictured", 0.5: "half", 1.0: "as in the prompt"}  # their names


@dataclass(frozen=True)
class EditSetting:
    """The two weights that set the influence of a prompt; see `inference.prompting`."""

    lambda_: float
    text_guidance: float


@dataclass(frozen=True)
class Edited:
    """Results of N edits at one setting."""

    setting: EditSetting
    name: str
    images: list[Image.Image]
    scores: dict[str, np.ndarray]
    """`clip_t`, `clip_i`, `time_frames`, `azimuth_deg` (N,); the last is NaN where a pose is unknown."""


@dataclass(frozen=True)
class Edits:
    """Commands with other prompts, and their results at every setting; both may be empty."""

    commands: list[Command]
    tried: list[Edited]
    own_lambda: float
    """The adapter's lambda."""

    def figures(self) -> dict[str, dict[str, np.ndarray]]:
        """The scores of the reported settings, by the prefix of their figures."""
        settings = {
            "": at_strength(1, self.own_lambda),
            "as_pictured.": at_strength(0, self.own_lambda),
            "lambda_0.": at_lambda(0.0, self.own_lambda),
            "own_lambda.": at_lambda(self.own_lambda, self.own_lambda),
        }
        return {prefix: edited.scores for prefix, edited in self._tried(settings).items()}

    def pictures(self, strengths: Sequence[float]) -> dict[str, list[Image.Image]]:
        """The images at some strengths, by the strengths' names."""
        return {name: edited.images for name, edited in self._tried(by_strength(strengths, self.own_lambda)).items()}

    def _tried(self, settings: Mapping[str, EditSetting]) -> dict[str, Edited]:
        found = {edited.setting: edited for edited in self.tried}
        return {name: found[setting] for name, setting in settings.items() if setting in found}


class CaptionEncoder:
    """Encodes captions into the image encoder's space; needs a base that includes CLIP's text projection."""

    def __init__(self, pipe: FourDistillPipeline, projection: torch.Tensor):
        self.pipe, self.projection = pipe, projection.float().to(pipe.device)

    @classmethod
    def from_base(cls, pipe: FourDistillPipeline, base: str) -> "CaptionEncoder | None":
        """The encoder of a local base with a `clip_projection/`; None for others: their encoders may not match."""
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
    """Choose random commands of every scene in turn, each with one of the other `captions` as its prompt.

    If any commands change both time and view, only those are taken. Empty if there are fewer than two captions.
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
    """The setting of a prompt strength, for an adapter's own lambda."""
    prompts = ["any"]
    lambda_ = lambdas_of(prompts, strength, own_lambda).item()
    return EditSetting(round(lambda_, 6), round(text_guidance_of(prompts, strength), 6))


def at_lambda(lambda_: float, own_lambda: float) -> EditSetting:
    """The setting of another lambda, with the text guidance of a prompt at full strength."""
    return replace(at_strength(1, own_lambda), lambda_=lambda_)


def by_strength(strengths: Sequence[float], own_lambda: float) -> dict[str, EditSetting]:
    """The settings of some strengths, by name."""
    return {STRENGTHS.get(s, f"strength {s:g}"): at_strength(s, own_lambda) for s in strengths}


def by_lambda(lambdas: Sequence[float], own_lambda: float) -> dict[str, EditSetting]:
    """The settings of the adapter's own lambda and of others, by name."""
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
    """Carry out the edits at every strength, then every lambda; equal settings run once, under the first name."""
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
