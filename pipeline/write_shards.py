"""Stage `write_shards`: pack pairs, frames and features into tars that stock WebDataset reads."""

from typing import TYPE_CHECKING

from fourdistill.shards.write import write_shards
from fourdistill.stage import run_stage

if TYPE_CHECKING:
    from fourdistill.params import Params


def main(params: "Params") -> None:
    """Pack paths.pairs_table with its frames and features into paths.shards, with an index.json."""
    paths = params.paths
    write_shards(
        paths.pairs_table,
        paths.frames,
        paths.features,
        paths.shards,
        params.write_shards,
        teacher=params.teacher_frames,
        index_copy=paths.reports / "shards.index.json",
    )


if __name__ == "__main__":
    run_stage(main)
