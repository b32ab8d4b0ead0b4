import csv
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from grid_scenes import write_scenes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stage_settings import pair_settings, settings_of, split_rule
from tiny_scenes import ring_cameras

from fourdistill.errors import InputError
from fourdistill.geometry.scene_frame import fit_scene_frame, spherical, spherical_delta
from fourdistill.pairs.build import build_pairs
from fourdistill.tables import FRAMES, KINDS, PAIRS, read_table, to_matrices, write_table

ALL = {"time": 1.0, "view": 1.0, "joint": 1.0}


def frames_table(scenes, split=None, fps=8.0):
    """A frames table without videos: scenes are (name, number of cameras, number of frames, posed)."""
    rows = []
    for number, (scene, num_cameras, num_frames, posed) in enumerate(scenes):
        c2w = ring_cameras(num_cameras, radius=2.0 + number)
        for camera in range(num_cameras):
            time = np.arange(num_frames) / max(1, num_frames - 1)
            splits = (split or split_rule()).split(scene, f"cam{camera:02d}", time)
            for index in range(num_frames):
                rows.append(
                    {
                        "scene": scene,
                        "camera": f"cam{camera:02d}",
                        "frame_index": index,
                        "timestamp_s": index / fps,
                        "time": time[index],
                        "path": f"{scene}/cam{camera:02d}/{index:06d}.jpg",
                        "width": 32,
                        "height": 32,
                        "K": np.eye(3).ravel() if posed else None,
                        "c2w": c2w[camera].ravel() if posed else None,
                        "caption": f"about {scene}" if number % 2 == 0 else None,
                        "split": splits[index],
                    }
                )
    return pa.Table.from_pylist(rows, schema=FRAMES)


def build(folder, table, num_pairs, **options: Any):
    write_table(table, folder / "frames.parquet")
    displacement = {name: options.pop(name) for name in ("max_gap", "max_gap_s", "normalizer") if name in options}
    seed, kinds = options.pop("seed", 0), options.pop("kinds", ALL)
    build_pairs(
        folder / "frames.parquet",
        write_scenes(table, folder / "scenes.parquet"),
        folder / "pairs.parquet",
        folder / "pairs.json",
        folder / "gaps.csv",
        pair_settings(num_pairs, kinds, **options),
        settings_of("displacement", **displacement),
        seed=seed,
    )
    return read_table(folder / "pairs.parquet", PAIRS)


def by_frame(table):
    return {(row["scene"], row["camera"], row["frame_index"]): row for row in table.to_pylist()}


def joined(frames, pairs):
    """(pair row, source frame row, target frame row) of every pair."""
    known = by_frame(frames)
    for row in pairs.to_pylist():
        source = known[row["scene"], row["source_camera"], row["source_frame"]]
        yield row, source, known[row["scene"], row["target_camera"], row["target_frame"]]


def test_every_column_says_what_the_frames_say(tmp_path):
    frames = frames_table([("kick", 4, 9, True), ("walk", 3, 7, True)])
    pairs = build(tmp_path, frames, {"train": 600})
    assert all(field.metadata[b"description"] for field in pairs.schema)
    assert pairs["pair_id"].to_pylist() == list(range(600))
    scene_frames = {}
    for row, source, target in joined(frames, pairs):
        assert row["gap"] == source["frame_index"] - target["frame_index"]
        assert row["gap_s"] == source["timestamp_s"] - target["timestamp_s"]
        assert row["normalized_gap"] == pytest.approx(source["time"] - target["time"], abs=1e-6)
        assert row["caption"] == source["caption"]
        assert (row["source_camera"] == row["target_camera"]) == (row["kind"] == "time")
        assert (row["gap"] == 0) == (row["kind"] == "view")
        if row["kind"] == "time":
            assert row["relative_pose"] is row["delta_azimuth"] is row["delta_elevation"] is row["delta_radius"] is None
            continue
        c2w_source, c2w_target = (np.reshape(end["c2w"], (4, 4)) for end in (source, target))
        expected = np.linalg.inv(c2w_source) @ c2w_target
        if row["scene"] not in scene_frames:
            poses = [np.reshape(r["c2w"], (4, 4)) for r in frames.to_pylist() if r["scene"] == row["scene"]]
            scene_frames[row["scene"]] = fit_scene_frame(np.unique(poses, axis=0))
        frame = scene_frames[row["scene"]]
        expected[:3, 3] /= frame.scale
        np.testing.assert_allclose(np.reshape(row["relative_pose"], (3, 4)), expected[:3], atol=1e-6)
        delta = spherical_delta(spherical(frame, c2w_source), spherical(frame, c2w_target))
        found = [row["delta_azimuth"], row["delta_elevation"], row["delta_radius"]]
        np.testing.assert_allclose(found, delta, atol=1e-6)


def test_kinds_come_in_proportion_and_scenes_evenly(tmp_path):
    frames = frames_table([("kick", 4, 9, True), ("walk", 3, 30, True)])
    pairs = build(tmp_path, frames, {"train": 1000}, kinds={"time": 0.4, "view": 0.3, "joint": 0.3})
    kinds, scenes = (np.array(pairs[name].to_pylist()) for name in ("kind", "scene"))
    assert [(kinds == kind).sum() for kind in KINDS] == [400, 300, 300]
    for kind in KINDS:
        assert abs((scenes[kinds == kind] == "kick").sum() - (kinds == kind).sum() / 2) <= 1


@pytest.mark.parametrize("kind", ["time", "joint"])
def test_gaps_are_balanced_over_their_range(tmp_path, kind):
    """Every |gap| and both directions are equally frequent, also with held-out times in the middle and a camera."""
    split = split_rule(test_cameras=["cam01"], test_times=[(0.4, 0.6)])
    frames = frames_table([("kick", 4, 20, True), ("walk", 3, 20, True)], split)
    pairs = build(tmp_path, frames, {"train": 2 * 19 * 10}, kinds={kind: 1.0})
    gaps, counts = np.unique(np.abs(pairs["gap"].to_numpy()), return_counts=True)
    np.testing.assert_array_equal(gaps, np.arange(1, 20))
    assert counts.min() == counts.max() == 20
    back = (pairs["gap"].to_numpy() > 0).sum()
    assert back == pairs.num_rows / 2


def test_gaps_are_balanced_over_scenes_that_have_few_pairs_each(tmp_path):
    frames = frames_table([(f"scene{number:02d}", 2, 20, True) for number in range(19)])
    pairs = build(tmp_path, frames, {"train": 19 * 10}, kinds={"time": 1.0})
    _, counts = np.unique(np.abs(pairs["gap"].to_numpy()), return_counts=True)
    assert counts.tolist() == [10] * 19  # exact, although each scene has only 10 pairs for 19 gaps


def test_starts_are_uniform_among_those_that_fit(tmp_path):
    frames = frames_table([("kick", 2, 5, True)])
    pairs = build(tmp_path, frames, {"train": 8000}, kinds={"time": 1.0}, bidirectional=False, max_gap=1)
    keys = [f"{row['target_camera']} {row['target_frame']}" for row in pairs.to_pylist()]
    _, counts = np.unique(keys, return_counts=True)
    assert len(counts) == 2 * 4
    assert abs(counts - 1000).max() < 5 * np.sqrt(1000)


def test_one_way_only(tmp_path):
    frames = frames_table([("kick", 3, 9, True)])
    pairs = build(tmp_path, frames, {"train": 300}, bidirectional=False)
    kinds, gaps = np.array(pairs["kind"].to_pylist()), pairs["gap"].to_numpy()
    assert (gaps[kinds != "view"] > 0).all()  # positive d leads back in time


def test_max_gap(tmp_path):
    pairs = build(tmp_path, frames_table([("kick", 3, 9, True)]), {"train": 300}, max_gap=3)
    assert set(np.abs(pairs["gap"].to_numpy())) == {0, 1, 2, 3}


def test_seconds_as_normaliser(tmp_path):
    frames = frames_table([("kick", 3, 40, True)], fps=8.0)
    pairs = build(tmp_path, frames, {"train": 500}, normalizer="seconds", max_gap_s=2.0)
    gap_s = pairs["gap_s"].to_numpy()
    assert np.abs(gap_s).max() == 2.0  # 16 frames; longer gaps would leave [-1, 1]
    np.testing.assert_allclose(pairs["normalized_gap"].to_numpy(), gap_s / 2, atol=1e-6)


def test_scenes_without_poses_give_time_pairs_only(tmp_path):
    frames = frames_table([("bikes", 1, 30, False), ("kick", 3, 9, True)])
    pairs = build(tmp_path, frames, {"train": 900})
    kinds, scenes = (np.array(pairs[name].to_pylist()) for name in ("kind", "scene"))
    assert set(kinds[scenes == "bikes"]) == {"time"}
    assert [(kinds == kind).sum() for kind in KINDS] == [300, 300, 300]
    alone = build(tmp_path, frames_table([("bikes", 1, 30, False)]), {"train": 90})
    assert set(alone["kind"].to_pylist()) == {"time"} and alone.num_rows == 90
    assert json.loads((tmp_path / "pairs.json").read_text())["scenes_without_poses"] == 1


def test_cameras_that_are_out_of_step_are_not_paired(tmp_path):
    frames = frames_table([("kick", 3, 9, True)])
    late = np.array(frames["camera"].to_pylist()) == "cam02"
    times = frames["timestamp_s"].to_numpy() + np.where(late, 0.1, 0)  # 0.8 of a frame
    frames = frames.set_column(3, FRAMES.field("timestamp_s"), pa.array(times))
    pairs = build(tmp_path, frames, {"train": 600})
    cameras = np.array([pairs["source_camera"].to_pylist(), pairs["target_camera"].to_pylist()])
    kinds = np.array(pairs["kind"].to_pylist())
    assert "cam02" not in cameras[:, kinds != "time"]
    assert "cam02" in cameras[:, kinds == "time"]


def test_two_runs_give_the_same_bytes_and_another_seed_other_pairs(tmp_path):
    frames = frames_table([("kick", 4, 9, True), ("bikes", 1, 20, False)], split_rule(test_cameras=["cam01"]))
    results = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        build(tmp_path / name, frames, {"train": 200, "test": 50}, seed=seed)
        results.append([(tmp_path / name / file).read_bytes() for file in ("pairs.parquet", "pairs.json", "gaps.csv")])
    assert results[0] == results[1]
    assert results[0][0] != results[2][0]


def test_reports_count_what_is_there(tmp_path):
    frames = frames_table([("kick", 4, 9, True)], split_rule(test_cameras=["cam01"]))
    pairs = build(tmp_path, frames, {"train": 200, "test": 50})
    report = json.loads((tmp_path / "pairs.json").read_text())
    assert report["train"]["pairs"] == 200 and report["test"]["pairs"] == 50 and report["val"]["pairs"] == 0
    rows = list(csv.DictReader((tmp_path / "gaps.csv").open()))
    for row in rows:
        match = [
            pair
            for pair in pairs.to_pylist()
            if (pair["split"], pair["kind"], pair["gap"]) == (row["split"], row["kind"], int(row["gap"]))
        ]
        assert len(match) == int(row["pairs"])
    assert sum(int(row["pairs"]) for row in rows) == 250


@st.composite
def split_rules(draw):
    names = st.lists(st.sampled_from(["kick", "walk", "run"]), unique=True, max_size=2)
    cameras = st.lists(st.sampled_from(["cam00", "cam01", "cam02"]), unique=True, max_size=2)
    edges = sorted(draw(st.lists(st.floats(0, 1), min_size=2, max_size=2)))
    return split_rule(
        test_scenes=draw(names),
        val_scenes=draw(names),
        test_cameras=draw(cameras),
        test_times=draw(st.sampled_from([[], [tuple(edges)]])),
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(rule=split_rules(), seed=st.integers(0, 2**31), bidirectional=st.booleans())
def test_splits_never_leak(tmp_path, rule, seed, bidirectional):
    """No train pair contains a held-out frame, camera or scene, and every target is of the pair's split."""
    frames = frames_table([("kick", 3, 9, True), ("run", 1, 12, False), ("walk", 3, 6, True)], rule)
    available = set(frames["split"].to_pylist())
    wanted = {split: 60 for split in ("train", "val", "test") if split in available}
    try:
        pairs = build(tmp_path, frames, wanted, seed=seed, bidirectional=bidirectional)
    except InputError as error:  # a single frame of a split has no partner
        assert "found none" in str(error)
        return
    for row, source, target in joined(frames, pairs):
        assert target["split"] == row["split"]
        if row["split"] == "train":
            assert source["split"] == "train"
            assert row["scene"] not in {*rule.test_scenes, *rule.val_scenes}
            assert not {row["source_camera"], row["target_camera"]} & set(rule.test_cameras)
            assert not any(first <= end["time"] <= last for end in (source, target) for first, last in rule.test_times)
        else:
            assert source["split"] in ("train", row["split"])


def test_a_split_without_frames_is_an_error_that_names_the_key(tmp_path):
    frames = frames_table([("kick", 3, 9, True)])
    with pytest.raises(InputError, match=r"frames\.parquet: split val: .*64 pairs.*build_pairs\.num_pairs\.val"):
        build(tmp_path, frames, {"train": 10, "val": 64})
    assert not (tmp_path / "pairs.parquet").exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"kinds": {"time": 0.0}}, "kinds"),
    ],
)
def test_options_with_nonsense(tmp_path, options, expected):
    with pytest.raises(InputError, match=expected):
        build(tmp_path, frames_table([("kick", 3, 9, True)]), {"train": 10}, **options)


def test_tables_with_nonsense(tmp_path):
    frames = frames_table([("kick", 3, 9, True)])
    with pytest.raises(InputError, match=r"frames\.parquet: column time: expected float"):
        build(tmp_path, frames.drop_columns(["time"]), {"train": 10})
    (tmp_path / "frames.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match=r"frames\.parquet: expected a readable Parquet table"):
        read_table(tmp_path / "frames.parquet", FRAMES)
    with pytest.raises(InputError, match="found none"):
        read_table(tmp_path / "gone.parquet", FRAMES)


def test_null_matrices_read_as_nan():
    frames = frames_table([("bikes", 1, 2, False), ("kick", 2, 3, True)])
    matrices = to_matrices(frames["c2w"], (4, 4))
    assert np.isnan(matrices[:2]).all()
    np.testing.assert_allclose(matrices[2], ring_cameras(2, radius=3.0)[0])


def moving(frames, cameras, degrees=5):
    """The frames table with `cameras` turning about the scene's up axis by `degrees` per frame."""
    rows = frames.to_pylist()
    for row in rows:
        if row["camera"] in cameras:
            turn = np.radians(degrees * row["frame_index"])
            rotation = np.eye(4)
            rotation[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
            row["c2w"] = (rotation @ np.array(row["c2w"]).reshape(4, 4)).ravel()
    return pa.Table.from_pylist(rows, schema=FRAMES)


def test_a_camera_that_moves_gives_joint_pairs_of_its_own_and_none_of_time(tmp_path):
    """As in D-NeRF and Nerfies: a gap in time is also a gap in viewpoint, so the pair is never a time pair."""
    # A full turn, so that the mean of the cameras' up vectors is the axis of rotation.
    frames = moving(frames_table([("kick", 1, 12, True)]), {"cam00"}, degrees=30)
    pairs = build(tmp_path, frames, {"train": 3000}).to_pylist()
    assert {row["kind"] for row in pairs} == {"joint"}
    assert {(row["source_frame"], row["target_frame"]) for row in pairs} == {
        (source, target) for source in range(12) for target in range(12) if source != target
    }
    for row, source, target in joined(frames, read_table(tmp_path / "pairs.parquet", PAIRS)):
        expected = np.linalg.inv(np.reshape(source["c2w"], (4, 4))) @ np.reshape(target["c2w"], (4, 4))
        pose = np.reshape(row["relative_pose"], (3, 4))
        np.testing.assert_allclose(pose[:, :3], expected[:3, :3], atol=1e-6)
        turned = np.radians(30 * (target["frame_index"] - source["frame_index"]))
        assert np.exp(1j * row["delta_azimuth"]) == pytest.approx(np.exp(1j * turned), abs=1e-5)


def test_still_and_moving_cameras_of_one_scene(tmp_path):
    frames = moving(frames_table([("kick", 3, 6, True)]), {"cam01"})
    pairs = build(tmp_path, frames, {"train": 3000}).to_pylist()
    of_kind = {kind: [row for row in pairs if row["kind"] == kind] for kind in KINDS}
    assert {row["source_camera"] for row in of_kind["time"]} == {"cam00", "cam02"}
    assert all(row["source_camera"] != row["target_camera"] and row["gap"] == 0 for row in of_kind["view"])
    assert {row["source_camera"] for row in of_kind["view"]} == {"cam00", "cam01", "cam02"}
    same = {row["source_camera"] for row in of_kind["joint"] if row["source_camera"] == row["target_camera"]}
    assert same == {"cam01"}
    assert all(row["gap"] != 0 for row in of_kind["joint"])


def test_frames_of_a_moving_camera_without_a_pose_are_in_no_pair(tmp_path):
    rows = moving(frames_table([("kick", 1, 8, True)]), {"cam00"}).to_pylist()
    for row in rows[3:5]:
        row |= {"K": None, "c2w": None}
    pairs = build(tmp_path, pa.Table.from_pylist(rows, schema=FRAMES), {"train": 200}).to_pylist()
    assert {row["source_frame"] for row in pairs} | {row["target_frame"] for row in pairs} == {0, 1, 2, 5, 6, 7}
