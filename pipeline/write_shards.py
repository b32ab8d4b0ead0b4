"""Stage `write_shards`: pairs, frames and features to tars that stock WebDataset reads."""

from fourdistill.config import Params
from fourdistill.shards.write import write_shards
from fourdistill.stage import run_stage


def main(params: Params) -> None:
    """Pack paths.pairs_table with its frames and features into paths.shards, with an index.json."""
    section, paths = params.write_shards, params.paths
    write_shards(
        paths.pairs_table,
        paths.frames,
        paths.features if section.features else None,
        paths.shards,
        shard_size_mb=section.shard_size_mb,
        max_pairs=section.max_pairs,
        engine=section.engine,
        jobs=section.jobs,
        index_copy=paths.reports / "shards.index.json",
    )


if __name__ == "__main__":
    run_stage(main)
