"""The section `evaluate` of `params.yaml`."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from fourdistill.config import STRICT, Count, Fraction, NonNegativeFloat, PositiveInt
from fourdistill.models.settings import Sampling


@dataclass(frozen=True, config=STRICT)
class GuidanceWeights:
    """The pipeline's guidance: away from the prediction without any condition, or without one of them; 1 is none."""

    all: NonNegativeFloat | None  # None: the adapter's own
    text: NonNegativeFloat
    image: NonNegativeFloat
    time: NonNegativeFloat
    view: NonNegativeFloat
    rescale: Fraction

    def arguments(self) -> dict[str, float | None]:
        """The arguments of `FourDistillPipeline.__call__`."""
        others = {f"{name}_guidance": getattr(self, name) for name in ("text", "image", "time", "view")}
        return {"guidance_scale": self.all, "guidance_rescale": self.rescale, **others}

    def describe(self, own: float) -> str:
        """`guidance 1`, and every other weight that is not 1; `own` is the adapter's guidance."""
        others = {name: getattr(self, name) for name in ("text", "image", "time", "view")}
        return f"guidance {own if self.all is None else self.all:g}" + "".join(
            f", of {name} {w:g}" for name, w in others.items() if w != 1
        )


@dataclass(frozen=True, config=STRICT)
class SweepSettings:
    """Control is measured on sweeps through scenes' camera x time grids."""

    num_scenes: PositiveInt
    num_steps: Annotated[int, Field(ge=2)]  # commands of a sweep


@dataclass(frozen=True, config=STRICT)
class EditSettings:
    """Commands of the sweeps that are carried out with another scene's caption."""

    num: Count
    strengths: tuple[Fraction, ...]  # of the prompt
    lambdas: tuple[NonNegativeFloat, ...]  # besides the adapter's own, at the text guidance of strength 1


@dataclass(frozen=True, config=STRICT)
class ScoreSettings:
    """How images are scored, and how scores are grouped and resampled."""

    feature_space: Literal["pixels", "latents", "clip", "efficientnet"]  # whose control metrics have no name prefix
    second_opinion: bool  # also measure with EfficientNet-Lite0; needs the extra second-opinion
    structure_from_motion: bool  # estimate the orbits' poses with COLMAP: needs textured scenes and the extra `colmap`
    large_gap: Fraction  # a pair is "large" if |normalized_gap| is at least this, or ...
    large_azimuth_deg: Annotated[float, Field(ge=0, le=180)]  # ... if |azimuth displacement| is at least this
    num_bootstrap: PositiveInt


@dataclass(frozen=True, config=STRICT)
class ReportSettings:
    """What is shown as images."""

    num_sheet_rows: PositiveInt
    num_scenes: PositiveInt  # scenes whose sweeps are shown


@dataclass(frozen=True, config=STRICT)
class Evaluate:
    """Adapter and held-out pairs to metrics, plots and reports."""

    num_pairs: PositiveInt  # held-out pairs generated and scored
    num_inference_steps: PositiveInt
    batch_size: PositiveInt
    carrier: Literal["words", "image_prompt"]
    noise_scale: Fraction | None  # of the initial noise; None: the adapter's own
    baselines: bool  # also generate the baselines that need the model
    guidance: GuidanceWeights
    sweeps: SweepSettings
    edits: EditSettings
    scores: ScoreSettings
    report: ReportSettings

    def describe(self, own: Sampling) -> str:
        """Steps, guidance and noise of the sampling; `own` is the adapter's."""
        noise_scale = own.noise_scale if self.noise_scale is None else self.noise_scale
        guidance = self.guidance.describe(own.guidance_scale)
        return f"{self.num_inference_steps} steps, {guidance}, noise {noise_scale:g}"

    def sampling(self) -> dict[str, float | str | None]:
        """The pipeline's arguments that are the same for all images."""
        return {
            "num_inference_steps": self.num_inference_steps,
            "carrier": self.carrier,
            "noise_scale": self.noise_scale,
            **self.guidance.arguments(),
        }
