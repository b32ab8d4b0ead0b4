"""Stage `build_pairs`: the frames table to the pairs table, with the histogram of its gaps."""

from dataclasses import asdict

from fourdistill.config import Params
from fourdistill.pairs.build import build_pairs
from fourdistill.stage import run_stage


def main(params: Params) -> None:
    """Draw pairs of frames from paths.frames_table: paths.pairs_table, reports/pairs.json, plots/gaps.csv."""
    section, paths = params.build_pairs, params.paths
    build_pairs(
        paths.frames_table,
        paths.scenes_table,
        paths.pairs_table,
        paths.reports / "pairs.json",
        paths.plots / "gaps.csv",
        num_pairs=asdict(section.num_pairs),
        kinds=asdict(section.kinds),
        bidirectional=section.bidirectional,
        max_gap=section.max_gap,
        normalizer=section.normalizer,
        max_gap_s=section.max_gap_s,
        seed=params.seed,
    )


if __name__ == "__main__":
    run_stage(main)
