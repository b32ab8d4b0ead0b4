"""An evaluation of a few pictures by a tiny base."""

import torch

from fourdistill.evaluation.evaluate import EvaluationSettings
from fourdistill.inference.pipeline import FourDistillPipeline
from fourdistill.models.adapter import Adapter
from fourdistill.models.adapter_config import AdapterSettings
from fourdistill.models.base import load_base

SETTINGS = EvaluationSettings(
    num_pairs=9,
    num_inference_steps=2,
    guidance_scale=1.0,
    text_guidance=1.0,
    image_guidance=1.0,
    time_guidance=1.0,
    view_guidance=1.0,
    guidance_rescale=0.0,
    truncation=None,
    baselines=True,
    batch_size=4,
    feature_space="pixels",
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
    settings = AdapterSettings(view_encoding=view_encoding)
    return FourDistillPipeline.from_parts(base, Adapter.from_base(base, settings, torch.Generator().manual_seed(0)))
