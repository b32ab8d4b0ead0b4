"""Stage `build_pairs`: the frames table to the pairs table, with the histogram of its gaps."""

from typing import TYPE_CHECKING

from fourdistill.pairs.build import build_pairs
from fourdistill.stage import run_stage

if TYPE_CHECKING:
    from fourdistill.params import Params


def main(params: "Params") -> None:
    """Draw pairs of frames from paths.frames_table: paths.pairs_table, reports/pairs.json, plots/gaps.csv."""
    paths = params.paths
    build_pairs(
        paths.frames_table,
        paths.scenes_table,
        paths.pairs_table,
        paths.reports / "pairs.json",
        paths.plots / "gaps.csv",
        params.build_pairs,
        params.displacement,
        seed=params.seed,
    )


if __name__ == "__main__":
    run_stage(main)
