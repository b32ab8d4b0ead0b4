"""Stage `estimate_poses`: estimate cameras by structure from motion, for videos without poses."""

from typing import TYPE_CHECKING

from fourdistill.poses.estimate import estimate_poses
from fourdistill.sources.readers import ESTIMATE, SourceFolder, read_sources
from fourdistill.stage import run_stage

if TYPE_CHECKING:
    from fourdistill.params import Params


def main(params: "Params") -> None:
    """Estimate poses for sources with `poses: estimate`; write paths.poses_table and reports/poses.json."""
    paths = params.paths
    sources = [SourceFolder.of(source, paths.raw) for source in params.sources if source.poses == ESTIMATE]
    report = paths.reports / "poses.json"
    estimate_poses(read_sources(sources), paths.poses_table, report, params.estimate_poses, seed=params.seed)


if __name__ == "__main__":
    run_stage(main)
