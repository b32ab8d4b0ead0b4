"""Stage `build_pairs`: build the pairs table from the frames table, and the histogram of its gaps."""

from typing import TYPE_CHECKING

from fourdistill.pairs.build import build_pairs
from fourdistill.stage import run_stage

if TYPE_CHECKING:
    from fourdistill.params import Params


def main(params: "Params") -> None:
    """Sample pairs of frames, the teacher's too; write paths.pairs_table, reports/pairs.json and plots/gaps.csv."""
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
        teacher=params.teacher_frames,
    )


if __name__ == "__main__":
    run_stage(main)
