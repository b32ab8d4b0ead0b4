"""The commands of an evaluation, and a balanced choice of held-out pairs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fourdistill.errors import InputError
from fourdistill.geometry.displacement import Displacement
from fourdistill.geometry.poses import Array
from fourdistill.pairs.frame_pairs import read_displacements
from fourdistill.tables import KINDS, PAIRS, read_table

ROUNDING = 1e-4  # tolerance of displacements, so that equal grid steps fall on the same side of a limit
NUM_SIZE_STEPS = 4  # sizes 0, 1/4, 1/2, 3/4, 1: cameras 45 degrees apart fall on a step, not between two


@dataclass(frozen=True)
class FrameKey:
    """One frame of the frames table."""

    scene: str
    camera: str
    frame: int


@dataclass(frozen=True)
class Command:
    """A source frame (the condition), a displacement, and the frame that a perfect model would return."""

    kind: str
    """time, view or joint."""
    source: FrameKey
    target: FrameKey
    displacement: Displacement[Array]
    """A single one, from source to target; kind view has no time, kind time has no view."""
    caption: str | None
    pair_id: int | None = None
    """In the pairs table; None for a cell of a sweep."""
    new_scene: bool = False
    """Whether no training pair shows the scene: the whole scene is held out, not only a camera or time."""

    @property
    def told(self) -> dict[str, Any]:
        """`time`, `azimuth`, `elevation` and `radius` in user units, as floats; None where absent."""
        return self.displacement.to_user()

    def is_large(self, large_gap: float, large_azimuth_deg: float) -> bool:
        """Whether |time| >= `large_gap` or |azimuth| >= `large_azimuth_deg`."""
        time, azimuth = abs(self.displacement.time), np.degrees(abs(self.displacement.azimuth))
        return bool(time >= large_gap - ROUNDING or azimuth >= large_azimuth_deg - ROUNDING)

    def size(self) -> float:
        """The size of the displacement, in [0, 1]; see `sizes`."""
        return float(sizes(self.displacement))

    def moved_like(self, other: "Command") -> "Command":
        """The same source and target with another command's displacement, of the same kind."""
        return replace(self, displacement=other.displacement)

    def still(self) -> "Command":
        """The same source and target with a displacement of zero, of the same kind."""
        return replace(self, displacement=self.displacement.still())

    def label(self) -> str:
        """A short description of the commanded displacement, to label an image."""
        told = self.told
        words = [] if told["time"] is None else [f"time {told['time']:+.2f}"]
        if told["azimuth"] is not None:
            words.append(f"az {told['azimuth']:+.0f}°")
            words += [f"el {told['elevation']:+.0f}°"] if abs(told["elevation"]) >= 0.5 else []
        return " ".join(words)


def sizes(displacement: Displacement[Array]) -> Array:
    """Sizes of displacements (...), in [0, 1]: the larger of |time| and |azimuth| / pi."""
    return np.maximum(np.abs(displacement.time), np.abs(displacement.azimuth) / np.pi)


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
    displacements = read_displacements(table)
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
    """Kind and size (to the nearest quarter) of every pair as one number (N,)."""
    quarters = np.rint(sizes(displacements) * NUM_SIZE_STEPS).astype(int)
    return np.array([KINDS.index(kind) for kind in kinds]) * (NUM_SIZE_STEPS + 1) + quarters
