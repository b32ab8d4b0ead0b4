import numpy as np
import pyarrow.parquet as pq
import pytest
from grid_scenes import frame_rows, write_frames
from stage_settings import pair_settings, settings_of

from fourdistill.errors import InputError
from fourdistill.geometry.displacement import STANDING_STILL
from fourdistill.pairs.build import build_pairs
from fourdistill.pairs.frame_pairs import read_frame_pairs


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    frames = write_frames(folder / "frames.parquet", frame_rows("kick", "train") + frame_rows("walk", "val"))
    build_pairs(
        frames, folder / "scenes.parquet", folder / "pairs.parquet", folder / "pairs.json", folder / "gaps.csv",
        pair_settings({"train": 50, "val": 20}, {"time": 0.4, "view": 0.3, "joint": 0.3}),
        settings_of("displacement"), seed=0,
    )  # fmt: skip
    return folder / "pairs.parquet"


def test_every_pair_finds_its_frames_and_displacement_again(table):
    rows = [row for row in pq.read_table(table).to_pylist() if row["split"] == "train"]
    pairs = read_frame_pairs(table, "train")
    assert len(rows) == len(pairs.source) == len(pairs.target) == 50
    assert len(set(pairs.keys)) == len(pairs.keys)
    for i, row in enumerate(rows):
        assert pairs.keys[pairs.source[i]] == (row["scene"], row["source_camera"], row["source_frame"])
        assert pairs.keys[pairs.target[i]] == (row["scene"], row["target_camera"], row["target_frame"])
        moved = pairs.displacement[i]
        assert moved.time == pytest.approx(-row["normalized_gap"])  # the table has the paper's d, of opposite sign
        assert (moved.has_time, moved.has_view) == (row["kind"] != "view", row["kind"] != "time")
        expected = [row[f"delta_{name}"] or 0.0 for name in ("azimuth", "elevation", "radius")]
        assert [moved.azimuth, moved.elevation, moved.radius] == pytest.approx(expected, abs=1e-6)
        assert moved.relative_pose == pytest.approx(row["relative_pose"] or STANDING_STILL)


def test_a_split_may_be_empty_and_a_table_missing(table, tmp_path):
    empty = read_frame_pairs(table, "test")
    assert empty.keys == [] and empty.source.shape == (0,) and empty.displacement.relative_pose.shape == (0, 12)
    assert np.isfinite(read_frame_pairs(table, "val").displacement.relative_pose).all()
    with pytest.raises(InputError, match="expected a Parquet table"):
        read_frame_pairs(tmp_path / "none.parquet", "train")
