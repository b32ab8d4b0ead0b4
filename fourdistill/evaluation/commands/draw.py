"""What the model is told to do in an evaluation, and which held-out pairs make a fair sample of it."""

from dataclasses import dataclass, replace
from math import degrees
from pathlib import Path

import numpy as np
import pyarrow as pa

from fourdistill.errors import InputError
from fourdistill.tables import KINDS, PAIRS, read_table

STANDING_STILL = (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # a relative pose: rows of [I | 0]
ROUNDING = 1e-4  # of displacements: equal steps of a grid must not fall on both sides of a limit
NUM_SIZE_STEPS = 4  # sizes 0, 1/4, 1/2, 3/4, 1: cameras that stand 45 degrees apart fall on them, not between two


@dataclass(frozen=True)
class FrameKey:
    """One frame of the frames table."""

    scene: str
    camera: str
    frame: int


@dataclass(frozen=True)
class Instant:
    """When a frame was seen: `time` in [0, 1] within the scene, and seconds."""

    time: float
    timestamp_s: float


@dataclass(frozen=True)
class Command:
    """A displacement from a source frame, the condition, and the frame that a perfect model would return."""

    kind: str
    """time, view or joint."""
    source: FrameKey
    target: FrameKey
    time: float | None
    """`normalized_gap`, positive leads back in time; None for kind view."""
    spherical: tuple[float, float, float] | None
    """Azimuth and elevation in degrees, radius over the scene's scale, target minus source; None for kind time."""
    relative_pose: tuple[float, ...] | None
    """Rows of the 3x4 `source_from_target` (12,), translation over the scene's scale; None for kind time."""
    caption: str | None
    pair_id: int | None = None
    """In the pairs table; None for a cell of a sweep."""
    new_scene: bool = False
    """Whether no training pair shows the scene: it is held out as a whole, not by camera or time."""

    def is_large(self, large_gap: float, large_azimuth_deg: float) -> bool:
        """Whether |time| >= `large_gap` or |azimuth| >= `large_azimuth_deg`."""
        azimuth = abs(self.spherical[0]) if self.spherical else 0.0
        return abs(self.time or 0.0) >= large_gap - ROUNDING or azimuth >= large_azimuth_deg - ROUNDING

    def size(self) -> float:
        """How far the command leads, in [0, 1]: the larger of |time| and |azimuth| over 180 degrees."""
        return max(abs(self.time or 0.0), abs(self.spherical[0]) / 180 if self.spherical else 0.0)

    def moved_like(self, other: "Command") -> "Command":
        """The same source and target with another command's displacement, of the same kind."""
        return replace(self, time=other.time, spherical=other.spherical, relative_pose=other.relative_pose)

    def still(self) -> "Command":
        """The same source and target with a displacement of zero, of the same kind."""
        posed = self.spherical is not None
        return replace(
            self,
            time=None if self.time is None else 0.0,
            spherical=(0.0, 0.0, 0.0) if posed else None,
            relative_pose=STANDING_STILL if posed else None,
        )

    def label(self) -> str:
        """The commanded displacement in a few words, for a picture."""
        words = [] if self.time is None else [f"d {self.time:+.2f}"]
        if self.spherical is not None:
            words.append(f"az {self.spherical[0]:+.0f}°")
            words += [f"el {self.spherical[1]:+.0f}°"] if abs(self.spherical[1]) >= 0.5 else []
        return " ".join(words)


def normalized_gap(source: Instant, target: Instant, max_gap_s: float | None) -> float:
    """How far the target lies before the source: over `max_gap_s` seconds, or where it is None as a share of the scene.

    As `build_pairs` has it with the normaliser `seconds` and `scene`.
    """
    if max_gap_s is None:
        return source.time - target.time
    return (source.timestamp_s - target.timestamp_s) / max_gap_s


def choose_pairs(pairs_table: Path, num_pairs: int, seed: int) -> list[Command]:
    """A seeded choice of held-out test pairs, in order of pair_id: balanced over new and known scenes, kinds and sizes.

    Pairs of one kind and of one `size`, to the nearest quarter, of new or of known scenes form a stratum; strata are
    drawn from in turn until `num_pairs` are found or none is left. Raises `InputError` where the table has no test
    pair.
    """
    table = read_table(pairs_table, PAIRS)
    splits, scenes = (np.array(table[name].to_pylist()) for name in ("split", "scene"))
    known = set(scenes[splits == "train"])
    table = table.filter(splits == "test")
    if table.num_rows == 0:
        raise InputError(f"{pairs_table}: split: expected test pairs, found none; see build_pairs.num_pairs.test")
    new_scene = np.array([scene not in known for scene in table["scene"].to_pylist()])
    strata = _strata(table) * 2 + new_scene
    rng = np.random.default_rng(seed)
    queues = [rng.permutation(np.flatnonzero(strata == stratum)).tolist() for stratum in np.unique(strata)]
    chosen: list[int] = []
    while len(chosen) < num_pairs and any(queues):
        for queue in queues:
            if queue and len(chosen) < num_pairs:
                chosen.append(queue.pop())
    rows = table.take(sorted(chosen)).to_pylist()
    return [_command(row, row["scene"] not in known) for row in rows]


def _strata(table: pa.Table) -> np.ndarray:
    """Kind and size, to the nearest quarter, of every pair as one number (N,)."""
    kinds = np.array([KINDS.index(kind) for kind in table["kind"].to_pylist()])
    gap = np.abs(table["normalized_gap"].to_numpy())  # 0 for kind view
    azimuth = np.nan_to_num(np.abs(table["delta_azimuth"].to_numpy(zero_copy_only=False))) / np.pi
    quarters = np.rint(np.maximum(gap, azimuth) * NUM_SIZE_STEPS).astype(int)
    return kinds * (NUM_SIZE_STEPS + 1) + quarters


def _command(row: dict, new_scene: bool) -> Command:
    has_view = row["kind"] != "time"
    return Command(
        kind=row["kind"],
        source=FrameKey(row["scene"], row["source_camera"], row["source_frame"]),
        target=FrameKey(row["scene"], row["target_camera"], row["target_frame"]),
        time=None if row["kind"] == "view" else row["normalized_gap"],
        spherical=(degrees(row["delta_azimuth"]), degrees(row["delta_elevation"]), row["delta_radius"])
        if has_view
        else None,
        relative_pose=tuple(row["relative_pose"]) if has_view else None,
        caption=row["caption"],
        pair_id=row["pair_id"],
        new_scene=new_scene,
    )
