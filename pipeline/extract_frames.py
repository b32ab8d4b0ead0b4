"""Stage `extract_frames`: raw videos of every source to square JPEG frames and the frames table."""

from dataclasses import asdict

from fourdistill.config import Params
from fourdistill.data.frames import extract_frames
from fourdistill.data.readers import read_sources
from fourdistill.data.splits import SplitRule
from fourdistill.stage import run_stage


def main(params: Params) -> None:
    """Cut the videos under paths.raw into frames: paths.frames, paths.frames_table, reports/frames.json."""
    section, paths = params.extract_frames, params.paths
    held_out = section.split
    extract_frames(
        read_sources((paths.raw / source.name, source.format, source.prefix) for source in section.sources),
        paths.frames,
        paths.frames_table,
        paths.reports / "frames.json",
        size=section.size,
        jpeg_quality=section.jpeg_quality,
        max_frames=section.max_frames,
        ffmpeg=section.ffmpeg,
        split=SplitRule(**asdict(held_out)),
        engine=section.engine,
        jobs=section.jobs,
        max_bad_fraction=section.max_bad_fraction,
    )


if __name__ == "__main__":
    run_stage(main)
