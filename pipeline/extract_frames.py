"""Stage `extract_frames`: extract square JPEG frames and the frames table from the raw videos of all sources."""

from typing import TYPE_CHECKING

from fourdistill.frames.extract import extract_frames
from fourdistill.poses.table import with_poses
from fourdistill.sources.readers import ESTIMATE, SourceFolder, read_folder, scenes_of
from fourdistill.stage import run_stage

if TYPE_CHECKING:
    from fourdistill.params import Params


def main(params: "Params") -> None:
    """Read paths.raw; write paths.frames, the tables of frames and scenes, and reports/frames.json."""
    paths = params.paths
    folders = [read_folder(SourceFolder.of(source, paths.raw)) for source in params.sources]
    scenes = scenes_of(folders)
    if any(source.poses == ESTIMATE for source in params.sources):
        scenes = with_poses(scenes, paths.poses_table)
    report = extract_frames(
        scenes,
        paths.frames,
        paths.frames_table,
        paths.scenes_table,
        paths.reports / "frames.json",
        params.extract_frames,
        index_copy=paths.reports / "frames.index.json",
        left_out={str(folder.source.folder): folder.left_out for folder in folders},
    )
    print(f"{report['frames']} frames of {report['videos']} films, {report['scenes']} scenes; {len(report['bad'])} bad")
    for row in report["left_out"]:
        print(f"{row['source']}: left out: {row['count']} x {row['reason']}, such as {row['example']}")
    if names := report["split_names_not_found"]:
        print(f"extract_frames.split: expected names of scenes and cameras, found nothing named {', '.join(names)}")


if __name__ == "__main__":
    run_stage(main)
