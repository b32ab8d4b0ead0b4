"""Settings and pipeline for an evaluation of a few pictures with a tiny base."""

from stage_settings import settings_of
from tiny_adapters import start_tiny_adapter

from fourdistill.inference.pipeline import FourDistillPipeline
from fourdistill.models.base.model import load_base

SETTINGS = settings_of(
    "evaluate",
    num_pairs=9,
    num_inference_steps=2,
    batch_size=4,
    baselines=True,
    sweeps={"num_scenes": 1, "num_steps": 3},
    edits={"num": 2, "strengths": (0.0, 0.5, 1.0), "lambdas": (0.0, 2.0)},
    scores={"feature_space": "pixels", "large_azimuth_deg": 100, "num_bootstrap": 50},
    report={"num_sheet_rows": 2, "num_scenes": 1},
)


def make_pipe(tiny_base, view_encoding="spherical"):
    base = load_base(str(tiny_base))
    return FourDistillPipeline.from_parts(base, start_tiny_adapter(base, view_encoding=view_encoding))
