import numpy as np
import pytest
from grid_scenes import NUM_FRAMES, frame_rows, write_frames
from stage_settings import pair_settings, settings_of

from fourdistill.evaluation.protocol.pairs import choose_pairs
from fourdistill.evaluation.protocol.sweeps import build_sweeps
from fourdistill.pairs.build import build_pairs
from fourdistill.tables import PAIRS, read_table


def sweeps_of(tmp_path, rows, num_scenes=1, num_steps=100, max_gap=None, max_gap_s=None):
    table = write_frames(tmp_path / "frames.parquet", rows)
    rng = np.random.default_rng(0)
    scenes = tmp_path / "scenes.parquet"
    sweeps = build_sweeps(table, scenes, num_scenes, num_steps, max_gap=max_gap, max_gap_s=max_gap_s, rng=rng)
    return {sweep.name: sweep.commands for sweep in sweeps}


def test_time_sweep_runs_over_the_video_and_positive_leads_later(tmp_path):
    commands = sweeps_of(tmp_path, frame_rows("walk", "test"))["walk_time"]
    assert [c.target.frame for c in commands] == list(range(NUM_FRAMES))
    assert {c.source.frame for c in commands} == {NUM_FRAMES // 2}
    assert [commands[i].told["time"] for i in (0, -1)] == pytest.approx([-0.5, 0.5])
    assert all(c.kind == "time" and not c.displacement.has_view for c in commands)


def test_camera_sweep_orders_the_ring_by_azimuth(tmp_path):
    commands = sweeps_of(tmp_path, frame_rows("walk", "test"))["walk_camera"]
    angles = [c.told["azimuth"] for c in commands]
    assert angles == sorted(angles) and len({c.target.camera for c in commands}) == 4
    assert {round(abs(angle)) for angle in angles} == {0, 90, 180}
    assert all(c.told["time"] is None and c.told["elevation"] == pytest.approx(0, abs=1e-6) for c in commands)
    same = next(c for c in commands if c.target == c.source)
    assert same.displacement.relative_pose == pytest.approx((1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0), abs=1e-9)


def test_relative_pose_is_in_scene_scales(tmp_path):
    commands = sweeps_of(tmp_path, frame_rows("walk", "test"))["walk_camera"]
    opposite = next(c for c in commands if abs(c.told["azimuth"]) > 179)
    x, y, z = opposite.displacement.relative_pose[3::4]
    # Radius and scale are 3, the elevation is 0.3 rad: the opposite camera is 2 cos(0.3) scales away.
    assert (x * x + y * y + z * z) ** 0.5 == pytest.approx(2 * 0.955336, abs=1e-4)


def test_steps_are_spread_with_both_ends(tmp_path):
    commands = sweeps_of(tmp_path, frame_rows("walk", "test"), num_steps=3)["walk_time"]
    assert [c.target.frame for c in commands] == [0, 4, 8]


def test_time_sweeps_stay_within_what_pairs_were_drawn_from(tmp_path):
    rows = frame_rows("walk", "test", seconds=2.0)
    commands = sweeps_of(tmp_path, rows, max_gap=2)["walk_time"]
    assert [c.target.frame for c in commands] == [2, 3, 4, 5, 6]
    commands = sweeps_of(tmp_path, rows, max_gap_s=0.5)["walk_time"]
    assert [c.told["time"] for c in commands] == pytest.approx([-1, -0.5, 0, 0.5, 1])


def test_without_poses_there_is_no_camera_sweep(tmp_path):
    assert set(sweeps_of(tmp_path, frame_rows("walk", "test", posed=False))) == {"walk_time"}


def test_scenes_held_out_as_a_whole_come_first(tmp_path):
    partly = [row | {"split": "test" if row["camera"] == "cam02" else "train"} for row in frame_rows("kick", "train")]
    rows = partly + frame_rows("run", "train") + frame_rows("walk", "test")
    assert set(sweeps_of(tmp_path, rows, num_scenes=1)) == {"walk_time", "walk_camera", "walk_joint"}
    both = sweeps_of(tmp_path, rows, num_scenes=5)
    assert set(both) == {
        f"{scene}_{kind}" for scene in ("walk", "kick") for kind in ("time", "camera", "joint")
    }  # run has no test frames
    assert {c.source.camera for c in both["kick_time"]} == {"cam02"}


def test_other_scenes_come_from_all_over_the_list(tmp_path):
    rows = [row for name in "abcdefg" for row in frame_rows(name, "train")]
    rows = [row | {"split": "test" if row["camera"] == "cam02" else "train"} for row in rows]
    assert {name[0] for name in sweeps_of(tmp_path, rows, num_scenes=3)} == {"a", "d", "g"}
    rows += frame_rows("walk", "test")
    assert {name[0] for name in sweeps_of(tmp_path, rows, num_scenes=3)} == {"w", "a", "g"}


def test_joint_sweeps_change_both_and_end_in_held_out_frames(tmp_path):
    rows = [row | {"split": "test" if row["camera"] == "cam02" else "train"} for row in frame_rows("kick", "train")]
    commands = sweeps_of(tmp_path, rows, num_steps=5)["kick_joint"]
    assert len(commands) == 5 and len({c.source for c in commands}) == 1
    for command in commands:
        assert command.kind == "joint" and command.target.camera == "cam02" != command.source.camera
        assert command.target.frame != command.source.frame
        frames = command.target.frame - command.source.frame
        assert command.told["time"] == pytest.approx(frames / (NUM_FRAMES - 1))
        assert command.displacement.has_view and not command.new_scene
    assert all(c.new_scene for c in sweeps_of(tmp_path, frame_rows("walk", "test"))["walk_joint"])


def test_displacements_are_those_that_pairs_have_where_cameras_move(tmp_path):
    """The scene frame is that of all cameras: those of one instant would give another centre and scale."""
    rows = frame_rows("walk", "test")
    for row in rows:
        pose = np.reshape(row["c2w"], (4, 4))
        pose[:3, 3] *= 1 + 0.2 * row["frame_index"]  # further outwards at every instant
        row["c2w"] = pose.ravel().tolist()
    table, pairs = write_frames(tmp_path / "frames.parquet", rows), tmp_path / "pairs.parquet"
    build_pairs(
        table, tmp_path / "scenes.parquet", pairs, tmp_path / "report.json", tmp_path / "gaps.csv",
        pair_settings({"test": 1000}, {"view": 1, "joint": 1}), settings_of("displacement"), seed=0,
    )  # fmt: skip
    drawn = {(c.source, c.target): c for c in choose_pairs(pairs, read_table(pairs, PAIRS).num_rows, 0)}
    sweeps = sweeps_of(tmp_path, rows)
    for name in ("walk_camera", "walk_joint"):
        common = [(c, drawn[c.source, c.target]) for c in sweeps[name] if (c.source, c.target) in drawn]
        assert common
        for command, pair in common:
            assert command.told == pytest.approx(pair.told, abs=1e-4)
            assert command.displacement.relative_pose == pytest.approx(pair.displacement.relative_pose, abs=1e-5)
