"""Stage `reconstruct`: fit 4D reconstructions to scenes and render frames of new cameras; off by default."""

from typing import TYPE_CHECKING

from fourdistill.stage import run_stage
from fourdistill.teacher.reconstruct import reconstruct

if TYPE_CHECKING:
    from fourdistill.params import Params


def main(params: "Params") -> None:
    """Read the frames; write paths.teacher, paths.teacher_table and reports/reconstruct/, empty if the stage is off."""
    paths = params.paths
    report = reconstruct(
        paths.frames,
        paths.frames_table,
        paths.scenes_table,
        paths.teacher,
        paths.teacher_table,
        paths.reports / "reconstruct",
        params.reconstruct,
        seed=params.seed,
        index_copy=paths.reports / "teacher.index.json",
    )
    if not report["enabled"]:
        print("reconstruct.enabled: false, so there are no frames of a teacher")
        return
    print("{frames} frames; {teaches} scenes teach, {refused} refused, {failed} failed".format(**report))
    for row in report["scenes"]:
        if row["outcome"] != "teaches":
            print(f"{row['scene']}: {row['outcome']}: {row['reason']}")


if __name__ == "__main__":
    run_stage(main)
