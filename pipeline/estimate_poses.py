"""Stage `estimate_poses`: cameras of films that come without, by structure from motion."""

from fourdistill.config import Params
from fourdistill.poses.estimate import estimate_poses
from fourdistill.sources.readers import ESTIMATE, SourceFolder, read_sources
from fourdistill.stage import run_stage


def main(params: Params) -> None:
    """Pose the films of sources with `poses: estimate`: paths.poses_table, reports/poses.json."""
    section, paths = params.estimate_poses, params.paths
    sources = [
        SourceFolder(paths.raw / source.name, source.format, source.prefix, source.fps, estimate_poses=True)
        for source in params.extract_frames.sources
        if source.poses == ESTIMATE
    ]
    estimate_poses(
        read_sources(sources),
        paths.poses_table,
        paths.reports / "poses.json",
        size=section.size,
        max_pictures=section.max_pictures,
        seed=params.seed,
    )


if __name__ == "__main__":
    run_stage(main)
