"""Stage `train`: distil the pairs into an adapter for the frozen base."""

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import torch
from PIL import Image

from fourdistill.inference.contact_sheet import draw_sheet
from fourdistill.inference.pipeline import FourDistillPipeline
from fourdistill.models.adapter import Adapter
from fourdistill.models.adapter_config import AdapterSettings
from fourdistill.models.base.model import BaseModel, load_base
from fourdistill.models.prior import DisplacementPrior
from fourdistill.shards.loader.batches import Shards, Source, list_splits, make_loader
from fourdistill.stage import run_stage
from fourdistill.training.mappers.train import train
from fourdistill.training.runtime.launch import is_launched, launch
from fourdistill.training.runtime.report import REPORT_NAME

if TYPE_CHECKING:
    from fourdistill.params import Params

NUM_SAMPLES = 6


def main(params: "Params") -> None:
    """Train the words on the shards; a killed run goes on when started again."""
    if params.train.launcher is not None and not is_launched():
        launch(params.train.launcher, params.paths.live / REPORT_NAME)
        return
    paths, settings, displacement = params.paths, params.train, params.displacement
    base = load_base(paths.base, settings.ip_adapter)
    form = AdapterSettings(
        **asdict(settings.mappers),
        lambda_=params.lambda_,
        view_encoding=displacement.view_encoding,
        max_gap_s=displacement.max_gap_s,
        sampling=settings.sampling,
    )
    prior = DisplacementPrior.load(paths.prior) if form.sees_source else None
    pretrained = paths.pretrained if settings.start == "pretrained" else None
    adapter = Adapter.from_base(base, form, torch.Generator().manual_seed(params.seed), prior, pretrained)
    train(
        find_shards(params),
        base,
        adapter,
        settings,
        params.seed,
        adapter_folder=paths.adapter,
        live_folder=paths.live,
        checkpoint_folder=paths.adapter.with_name(f".{paths.adapter.name}.checkpoint"),
        draw_samples=lambda base, adapter: draw_samples(base, adapter, params),
    )


def find_shards(params: "Params") -> Shards:
    """The sources that params name, or the shards of the pipeline."""
    named = params.train.loader.sources
    if not named:
        return params.paths.shards
    return [Source(each) if isinstance(each, str) else Source(each.address, each.weight) for each in named]


def draw_samples(base: BaseModel, adapter: Adapter, params: "Params") -> Image.Image | None:
    """A contact sheet of some validation pairs, or None where there are none."""
    shards, seed = find_shards(params), params.seed
    if "val" not in list_splits(shards):
        return None
    options = replace(params.train.loader, resampled=False)
    loader = make_loader(shards, "val", NUM_SAMPLES, seed=seed, shuffle=True, epochs=1, images=True, options=options)
    batch = next(iter(loader))
    return draw_sheet(FourDistillPipeline.from_parts(base, adapter), batch, seed=seed)


if __name__ == "__main__":
    run_stage(main)
