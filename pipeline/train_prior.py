"""Stage `train_prior`: learn from all pairs what an image shows after a displacement, as image embeddings."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from fourdistill.config import pick
from fourdistill.models.prior import PriorConfig
from fourdistill.stage import run_stage
from fourdistill.training.prior.settings import PriorSettings
from fourdistill.training.prior.train import train_prior

if TYPE_CHECKING:
    from fourdistill.params import Params


def main(params: "Params") -> None:
    """Train the displacement prior on pairs and features; a killed run goes on when started again."""
    paths, values = params.paths, asdict(params.train_prior) | asdict(params.augmentations)
    form = pick(PriorConfig, values) | {"view_encoding": params.displacement.view_encoding}
    del form["num_components"]  # the data may allow fewer
    train_prior(
        paths.pairs_table,
        paths.features,
        PriorSettings(seed=params.seed, **pick(PriorSettings, values)),
        form,
        prior_folder=paths.prior,
        live_folder=paths.live_prior,
        checkpoint_folder=paths.prior.with_name(f".{paths.prior.name}.checkpoint"),
        checkpoint_address=params.train_prior.checkpoints,
        pretrained=paths.pretrained if params.train_prior.start == "pretrained" else None,
    )


if __name__ == "__main__":
    run_stage(main)
