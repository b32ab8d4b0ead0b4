import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from textured_room import SIZE, K, orbit, photograph

from fourdistill.evaluation.metrics.orbit_poses import OrbitScorer, pose_errors, summarise_orbits
from fourdistill.evaluation.metrics.summary import Summary
from fourdistill.evaluation.protocol.command import Command, FrameKey
from fourdistill.geometry.displacement import Displacement
from fourdistill.tables import FRAMES, write_table

POSES = orbit(5)


def rotation(axis, degrees):
    """Rodrigues' formula: 4x4 rotation about a unit axis."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    matrix = np.eye(4)
    matrix[:3, :3] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return matrix


@given(st.floats(-170, 170), st.floats(0.01, 100), st.tuples(*[st.floats(-50, 50)] * 3))
def test_world_and_scale_do_not_matter(degrees, scale, shift):
    world = rotation((0, 0.6, 0.8), degrees)
    world[:3, 3] = shift
    moved = POSES.copy()
    moved[:, :3, 3] *= scale
    errors = pose_errors(world @ moved, POSES)
    assert errors.registered.all()
    assert np.isnan([errors.rotation_deg[0], errors.direction_deg[0], errors.translation[0]]).all()  # the reference
    assert errors.rotation_deg[1:] == pytest.approx(np.zeros(4), abs=1e-3)
    assert errors.direction_deg[1:] == pytest.approx(np.zeros(4), abs=1e-3)
    assert errors.translation[1:] == pytest.approx(np.zeros(4), abs=1e-6)


@given(st.floats(1, 179))
def test_a_camera_turned_on_the_spot_is_off_by_that_angle(degrees):
    turned = POSES.copy()
    turned[3] = turned[3] @ rotation((0, 0, 1), degrees)
    errors = pose_errors(turned, POSES)
    assert errors.rotation_deg == pytest.approx([np.nan, 0, 0, degrees, 0], abs=1e-3, nan_ok=True)
    assert errors.direction_deg == pytest.approx([np.nan, 0, 0, 0, 0], abs=1e-3, nan_ok=True)


def test_the_wrong_way_round_leads_the_other_way():
    errors = pose_errors(orbit(5, -60, -100), POSES)
    assert errors.direction_deg[1:].min() > 90
    assert errors.translation[1:].min() > 0.5


def test_a_camera_that_never_moves_has_no_direction():
    errors = pose_errors(np.repeat(POSES[:1], 5, axis=0), POSES)
    assert np.isnan(errors.direction_deg).all()
    assert errors.translation[1:].mean() == pytest.approx(1)


def test_the_first_registered_picture_is_the_reference_and_two_are_too_few():
    found = POSES.copy()
    found[[0, 2]] = np.nan
    errors = pose_errors(found, POSES)
    assert errors.registered.tolist() == [False, True, False, True, True]
    assert np.isfinite(errors.rotation_deg).tolist() == [False, False, False, True, True]
    found[1] = np.nan
    assert not pose_errors(found, POSES).registered.any()


def test_orbits_are_scored_by_their_pictures(tmp_path):
    keys = [FrameKey("room", f"cam{camera}", 0) for camera in range(5)]
    rows = [
        {
            "scene": key.scene,
            "camera": key.camera,
            "frame_index": 0,
            "timestamp_s": 0.0,
            "time": 0.0,
            "path": f"{key.camera}.jpg",
            "width": SIZE[0],
            "height": SIZE[1],
            "K": K.ravel().tolist(),
            "c2w": pose.ravel().tolist(),
            "caption": None,
            "split": "test",
        }
        for key, pose in zip(keys, POSES, strict=True)
    ]
    table = tmp_path / "frames.parquet"
    write_table(pa.Table.from_pylist(rows, schema=FRAMES), table)
    sweep = [Command("view", keys[0], key, Displacement.from_user(azimuth=0), None) for key in keys]
    still = [Command("time", keys[0], keys[0], Displacement.from_user(0.0), None)]
    pictures = [photograph(pose).resize((256, 256)) for pose in POSES]
    grey = Image.new("RGB", (256, 256))
    summary = Summary(20, seed=0)
    score = OrbitScorer(table, 256, seed=0)
    summarise_orbits("", [still, sweep], [grey, *pictures], score, summary)
    summarise_orbits("back.", [sweep], pictures[::-1], score, summary)
    summarise_orbits("grey.", [sweep], [grey] * 5, score, summary)
    summarise_orbits("none.", [still], [grey], score, summary)
    figures = summary.metrics
    assert figures["pose.rotation_error_deg"] < 0.5
    assert figures["pose.direction_error_deg"] < 2
    assert figures["pose.failure_rate"] == 0
    assert figures["back.pose.rotation_error_deg"] > 15
    assert figures["grey.pose.failure_rate"] == 1
    assert "grey.pose.rotation_error_deg" not in figures
    assert not [name for name in figures if name.startswith("none.")]
