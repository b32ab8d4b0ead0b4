"""Stage `train`: distil the pairs into an adapter for the frozen base."""

from dataclasses import asdict

import numpy as np
import torch
from PIL import Image

from fourdistill.config import Params
from fourdistill.data.loader import Batch, make_loader
from fourdistill.inference.pipeline import FourDistillPipeline
from fourdistill.inference.samples import draw_sheet
from fourdistill.models.adapter import Adapter
from fourdistill.models.adapter_config import AdapterSettings
from fourdistill.models.base import BaseModel, load_base
from fourdistill.stage import run_stage
from fourdistill.training.loop import train
from fourdistill.training.settings import DropoutRates, TrainingSettings, apply_preset, pick

NUM_SAMPLES = 6


def main(params: Params) -> None:
    """Train the mappers and the image prompt on the shards; a killed run goes on when started again."""
    paths = params.paths
    section = asdict(params.train)
    values = apply_preset(params.train.preset, section | {"dropout": DropoutRates(**section["dropout"])})
    base = load_base(paths.base, values["ip_adapter"])
    settings = TrainingSettings(seed=params.seed, **pick(TrainingSettings, values))
    form = AdapterSettings(lambda_=params.lambda_, **pick(AdapterSettings, values))
    adapter = Adapter.from_base(base, form, torch.Generator().manual_seed(params.seed))
    train(
        paths.shards,
        base,
        adapter,
        settings,
        adapter_folder=paths.adapter,
        live_folder=paths.live,
        checkpoint_folder=paths.adapter.with_name(f".{paths.adapter.name}.checkpoint"),
        draw_samples=lambda base, adapter: draw_samples(base, adapter, params),
    )


def draw_samples(base: BaseModel, adapter: Adapter, params: Params) -> Image.Image | None:
    """A contact sheet of some validation pairs, or None where there are none."""
    loader = make_loader(params.paths.shards, "val", NUM_SAMPLES, seed=params.seed, shuffle=True, epochs=1)
    batch = next(iter(loader), None)
    if batch is None:
        return None
    pipe = FourDistillPipeline.from_parts(base, adapter)
    arguments = displacement(batch, adapter.config.settings.view_encoding)
    return draw_sheet(pipe, batch.source_embeds, batch.target_latents, arguments, seed=params.seed)


def displacement(batch: Batch, view_encoding: str) -> dict[str, list]:
    """The displacements of a batch as arguments of the pipeline, in the form that the adapter was trained on."""
    if view_encoding == "matrix":
        views = {"relative_pose": batch.relative_pose.unflatten(-1, (3, 4)).numpy()}
    else:
        azimuth, elevation, radius = batch.delta_spherical.numpy().T
        views = {"azimuth": np.degrees(azimuth), "elevation": np.degrees(elevation), "radius": radius}
    present = {name: (values, batch.has_view) for name, values in views.items()}
    present["time"] = (batch.delta_time.numpy(), batch.has_time)
    return {
        name: [value if has else None for value, has in zip(values, mask.tolist(), strict=True)]
        for name, (values, mask) in present.items()
    }


if __name__ == "__main__":
    run_stage(main)
