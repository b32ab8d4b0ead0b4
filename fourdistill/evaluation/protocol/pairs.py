"""A balanced choice of held-out pairs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fourdistill.errors import InputError
from fourdistill.evaluation.protocol.command import Command, FrameKey, sizes
from fourdistill.geometry.displacement import Displacement
from fourdistill.geometry.poses import Array
from fourdistill.pairs.frame_pairs import read_pair_displacements
from fourdistill.tables import KINDS, PAIRS, read_table

NUM_SIZE_STEPS = 4  # sizes 0, 1/4, 1/2, 3/4, 1: cameras 45 degrees apart fall on a step, not between two


def choose_pairs(pairs_table: Path, num_pairs: int, seed: int) -> list[Command]:
    """Choose held-out test pairs by seed, balanced over new and known scenes, kinds and sizes, in order of pair_id.

    A stratum has pairs of one kind and one `size` (to the nearest quarter), of either new or known scenes. Strata are
    drawn from in turn until `num_pairs` are found or none is left. Raises `InputError` if the table has no test pair.
    """
    table = read_table(pairs_table, PAIRS)
    splits, scenes = (np.array(table[name].to_pylist()) for name in ("split", "scene"))
    known = set(scenes[splits == "train"])
    table = table.filter(splits == "test")
    if table.num_rows == 0:
        raise InputError(f"{pairs_table}: split: expected test pairs, found none; see build_pairs.num_pairs.test")
    new_scene = np.array([scene not in known for scene in table["scene"].to_pylist()])
    displacements = read_pair_displacements(table)
    strata = _strata(table["kind"].to_pylist(), displacements) * 2 + new_scene
    rng = np.random.default_rng(seed)
    queues = [rng.permutation(np.flatnonzero(strata == stratum)).tolist() for stratum in np.unique(strata)]
    chosen: list[int] = []
    while len(chosen) < num_pairs and any(queues):
        for queue in queues:
            if queue and len(chosen) < num_pairs:
                chosen.append(queue.pop())
    rows = table.take(sorted(chosen)).to_pylist()
    return [
        Command(
            kind=row["kind"],
            source=FrameKey(row["scene"], row["source_camera"], row["source_frame"]),
            target=FrameKey(row["scene"], row["target_camera"], row["target_frame"]),
            displacement=displacement,
            caption=row["caption"],
            pair_id=row["pair_id"],
            new_scene=row["scene"] not in known,
        )
        for row, displacement in zip(rows, displacements[sorted(chosen)], strict=True)
    ]


def _strata(kinds: Sequence[str], displacements: Displacement[Array]) -> np.ndarray:
    """Kind and size, to the nearest quarter, of every pair as one number (N,)."""
    quarters = np.rint(sizes(displacements) * NUM_SIZE_STEPS).astype(int)
    return np.array([KINDS.index(kind) for kind in kinds]) * (NUM_SIZE_STEPS + 1) + quarters
