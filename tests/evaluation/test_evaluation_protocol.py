from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest

from fourdistill.errors import InputError
from fourdistill.evaluation.protocol.command import Command, FrameKey
from fourdistill.evaluation.protocol.pairs import choose_pairs
from fourdistill.geometry.displacement import Displacement
from fourdistill.tables import PAIRS, read_table

KEY = FrameKey("walk", "cam00", 0)


def command(kind="joint", time: float | None = 0.0, azimuth: float | None = 0.0):
    return Command(kind, KEY, KEY, Displacement.from_user(time, azimuth), None)


def test_choice_is_balanced_over_kinds_and_held_out(grid_scenes):
    chosen = choose_pairs(grid_scenes.pairs_table, 18, seed=0)
    assert len(chosen) == 18 == len({c.pair_id for c in chosen})
    assert {c.source.scene for c in chosen} == {"walk"}
    counts = Counter(c.kind for c in chosen)
    # In a ring of four cameras, views are 90 or 180 degrees apart: fewer sizes than in time.
    assert counts["time"] >= 6 and min(counts.values()) >= 4
    near = sum(c.size() < 0.5 for c in chosen if c.kind == "time")
    assert abs(near - counts["time"] / 2) <= 1


def test_choice_follows_the_seed_alone(grid_scenes):
    first, again, other = (choose_pairs(grid_scenes.pairs_table, 12, seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_no_more_pairs_than_there_are(grid_scenes):
    assert len(choose_pairs(grid_scenes.pairs_table, 1000, seed=0)) == 60


def test_commands_carry_the_columns_of_their_kind(grid_scenes):
    rows = {row["pair_id"]: row for row in read_table(grid_scenes.pairs_table, PAIRS).to_pylist()}
    for c in choose_pairs(grid_scenes.pairs_table, 60, seed=0):
        row = rows[c.pair_id]
        assert c.source == FrameKey(row["scene"], row["source_camera"], row["source_frame"])
        assert c.target == FrameKey(row["scene"], row["target_camera"], row["target_frame"])
        assert c.told["time"] == (None if c.kind == "view" else -row["normalized_gap"])  # the table has the paper's d
        assert (c.told["azimuth"] is None) == (not c.displacement.has_view) == (c.kind == "time")
        if c.told["azimuth"] is not None:
            assert min(abs(abs(c.told["azimuth"]) - angle) for angle in (90, 180)) < 1e-3
            assert c.displacement.relative_pose == pytest.approx(row["relative_pose"])


@pytest.mark.parametrize(
    ("time", "azimuth", "large"),
    [(0.24, None, False), (-0.25, None, True), (None, 59.0, False), (None, -60.0, True), (0.1, 75.0, True)],
)
def test_large_is_far_in_time_or_in_azimuth(time, azimuth, large):
    assert command(time=time, azimuth=azimuth).is_large(large_gap=0.25, large_azimuth_deg=60) == large


def test_labels_say_what_was_commanded():
    assert command("time", 0.5, None).label() == "time +0.50"
    assert command("joint", -0.25, 45.0).label() == "time -0.25 az +45°"


def test_a_table_without_test_pairs_is_an_input_error(grid_scenes, tmp_path):
    table = pq.read_table(grid_scenes.pairs_table)
    path = tmp_path / "pairs.parquet"
    pq.write_table(table.filter([split == "train" for split in table["split"].to_pylist()]), path)
    with pytest.raises(InputError, match=r"pairs\.parquet: split: expected test pairs"):
        choose_pairs(path, 4, seed=0)


def test_a_still_command_asks_for_nothing_but_keeps_its_kind():
    still = command("joint", 0.5, 90.0).still()
    assert (still.told, still.kind) == ({"time": 0, "azimuth": 0, "elevation": 0, "radius": 1}, "joint")
    assert still.displacement.relative_pose == pytest.approx(np.eye(4)[:3].ravel())
    assert command("time", 0.5, None).still().told["azimuth"] is None


def test_a_command_takes_over_a_displacement_and_keeps_its_frames():
    moved = command("joint", 0.1, 10.0).moved_like(command("joint", 0.5, 90.0))
    assert moved.displacement == Displacement.from_user(0.5, 90.0) and moved.source == KEY
