"""Stage `train_prior`: learn from all pairs what an image shows after a displacement, as image embeddings."""

from typing import TYPE_CHECKING

from fourdistill.stage import run_stage
from fourdistill.training.prior.train import train_prior

if TYPE_CHECKING:
    from fourdistill.params import Params


def main(params: "Params") -> None:
    """Train the displacement prior on pairs and features; a killed run goes on when started again."""
    paths = params.paths
    train_prior(
        paths.pairs_table,
        paths.features,
        params.train_prior,
        params.augmentations,
        params.displacement.view_encoding,
        params.seed,
        prior_folder=paths.prior,
        live_folder=paths.live_prior,
        checkpoint_folder=paths.prior.with_name(f".{paths.prior.name}.checkpoint"),
        pretrained=paths.pretrained if params.train_prior.start == "pretrained" else None,
    )


if __name__ == "__main__":
    run_stage(main)
