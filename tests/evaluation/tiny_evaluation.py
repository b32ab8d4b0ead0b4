"""Settings and pipeline for an evaluation of a few pictures with a tiny base."""

from tiny_adapters import start_tiny_adapter

from fourdistill.evaluation.evaluate import EvaluationSettings
from fourdistill.inference.pipeline import FourDistillPipeline
from fourdistill.models.base.model import load_base

SETTINGS = EvaluationSettings(
    num_pairs=9,
    num_inference_steps=2,
    guidance_scale=1.0,
    text_guidance=1.0,
    image_guidance=1.0,
    time_guidance=1.0,
    view_guidance=1.0,
    guidance_rescale=0.0,
    carrier="words",
    baselines=True,
    batch_size=4,
    feature_space="pixels",
    second_opinion=False,
    large_gap=0.25,
    large_azimuth_deg=100,
    num_bootstrap=50,
    num_sheet_rows=2,
    num_sweep_scenes=1,
    num_sweep_steps=3,
    num_shown_scenes=1,
    num_edits=2,
    edit_strengths=(0.0, 0.5, 1.0),
    edit_lambdas=(0.0, 2.0),
    structure_from_motion=False,
)


def make_pipe(tiny_base, view_encoding="spherical"):
    base = load_base(str(tiny_base))
    return FourDistillPipeline.from_parts(base, start_tiny_adapter(base, view_encoding=view_encoding))
