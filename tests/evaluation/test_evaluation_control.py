"""Known answers: control metrics of pictures whose position on the grid is known."""

from dataclasses import replace

import numpy as np
import pytest
from grid_scenes import NUM_CAMERAS, NUM_FRAMES
from hypothesis import given, settings
from hypothesis import strategies as st
from rings import ring

from fourdistill.evaluation.metrics.control import control_values as values_and_rows
from fourdistill.evaluation.metrics.control import outcomes, sweep_correlation
from fourdistill.evaluation.metrics.retrieval import Grid, locate, read_grids
from fourdistill.evaluation.protocol.command import Command, FrameKey
from fourdistill.geometry.displacement import Displacement
from fourdistill.geometry.scene_frame import wrap_angle


def control_values(commands, result):
    return {name: values for name, (values, _) in values_and_rows(commands, result).items()}


SPACING = 360 / NUM_CAMERAS


def with_positions(grid: Grid, spherical: np.ndarray) -> Grid:
    return replace(grid, seen=replace(grid.seen, spherical=spherical))


RING = ring()
TRUTH = np.random.default_rng(0).normal(size=(len(RING.keys), 64))
cells = st.integers(0, len(RING.keys) - 1)


def command(source: int, target: int) -> Command:
    a, b = RING.keys[source], RING.keys[target]
    kind = "time" if a.camera == b.camera else "view" if a.frame == b.frame else "joint"
    return Command(kind, a, b, Displacement.from_user(), caption=None)


def angle(cell: int) -> float:
    return np.degrees(RING.spherical[cell, 0])


def between(a: float, b: float) -> float:
    return abs((a - b + 180) % 360 - 180)


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=8))
def test_the_truth_has_no_error_and_is_always_hit(pairs):
    commands = [command(*pair) for pair in pairs]
    result = outcomes(commands, TRUTH[[b for _, b in pairs]], {"s": RING}, {"s": TRUTH})
    assert result.hit.all()
    for errors in (result.frames, result.seconds, result.azimuth, result.elevation):
        np.testing.assert_allclose(errors, 0, atol=1e-6)


@given(cells, cells)
def test_a_copy_is_wrong_by_the_commanded_displacement(source, target):
    result = outcomes([command(source, target)], TRUTH[[source]], {"s": RING}, {"s": TRUTH})
    assert abs(result.frames[0]) == abs(RING.frame[source] - RING.frame[target])
    assert abs(result.azimuth[0]) == pytest.approx(between(angle(source), angle(target)), abs=1e-6)
    assert result.obtained_frames[0] == 0 and result.obtained_azimuth[0] == pytest.approx(0, abs=1e-9)


@given(cells, cells, cells)
def test_a_wrong_displacement_is_reported_as_the_one_that_happened(source, target, drawn):
    result = outcomes([command(source, target)], TRUTH[[drawn]], {"s": RING}, {"s": TRUTH})
    assert result.obtained_frames[0] == RING.frame[drawn] - RING.frame[source]
    assert between(result.obtained_azimuth[0], angle(drawn) - angle(source)) < 1e-6
    assert result.frames[0] == pytest.approx(RING.frame[drawn] - RING.frame[target], abs=1e-6)


@given(cells, st.floats(0, 1))
def test_a_blend_of_two_frames_stands_between_them(cell, share):
    later = cell + 1 if RING.frame[cell] < RING.frame.max() else cell
    picture = (1 - share) * TRUTH[cell] + share * TRUTH[later]
    found = locate(picture[None], TRUTH, RING)
    assert found.frame[0] == pytest.approx(RING.frame[cell] + share * (later - cell), abs=1e-6)
    assert found.seconds[0] == pytest.approx(found.frame[0] / 10)


@given(st.integers(0, 7), st.integers(0, 15), st.floats(0, 1))
def test_a_blend_of_two_cameras_stands_between_them_across_the_seam_too(camera, frame, share):
    a, b = camera * 16 + frame, (camera + 1) % 8 * 16 + frame
    found = locate(((1 - share) * TRUTH[a] + share * TRUTH[b])[None], TRUTH, RING)
    assert between(np.degrees(found.spherical[0, 0]), 45 * (camera + share)) < 1e-6


@settings(max_examples=20)
@given(st.integers(0, 2**31))
def test_more_noise_never_helps(seed):
    rng = np.random.default_rng(seed)
    pairs = [(int(a), int(b)) for a, b in rng.integers(len(RING.keys), size=(100, 2))]
    commands = [command(*pair) for pair in pairs]
    clean, noise = TRUTH[[b for _, b in pairs]], rng.normal(size=(100, 64))
    means = []
    for level in (0.0, 3.0, 30.0):
        values = control_values(commands, outcomes(commands, clean + level * noise, {"s": RING}, {"s": TRUTH}))
        means.append(
            [values["time.mae_frames"].mean(), values["view.azimuth_error_deg"].mean(), -values["joint.top1"].mean()]
        )
    assert (np.diff(means, axis=0) > 0).all(), means


def test_leakage_is_what_was_not_commanded():
    time_only, view_only = command(0, 5), command(0, 3 * 16)
    values = control_values(
        [time_only, view_only],
        outcomes([time_only, view_only], TRUTH[[2 * 16 + 5, 3 * 16 + 4]], {"s": RING}, {"s": TRUTH}),
    )
    assert values["leakage.azimuth_deg"] == pytest.approx([90], abs=1e-6)
    assert values["leakage.time_frames"] == pytest.approx([4], abs=1e-6)
    assert values["time.mae_frames"] == pytest.approx([0], abs=1e-6)
    assert values["view.azimuth_error_deg"] == pytest.approx([0], abs=1e-6)
    assert values["joint.top1"].size == 0


def test_without_poses_only_time_is_measured():
    blind = with_positions(RING, np.full_like(RING.spherical, np.nan))
    result = outcomes([command(0, 5)], TRUTH[[7]], {"s": blind}, {"s": TRUTH})
    values = control_values([command(0, 5)], result)
    assert values["time.mae_frames"] == pytest.approx([2]) and values["leakage.azimuth_deg"].size == 0


def test_values_know_their_commands():
    commands = [command(0, 5), command(0, 3 * 16), command(0, 3 * 16 + 5)]
    rows = {
        name: at.tolist()
        for name, (_, at) in values_and_rows(
            commands, outcomes(commands, TRUTH[[1, 2, 3]], {"s": RING}, {"s": TRUTH})
        ).items()
    }
    assert rows["time.mae_frames"] == [0, 2] and rows["view.azimuth_error_deg"] == [1, 2]
    assert rows["leakage.time_frames"] == [1] and rows["joint.top1"] == [2]


def test_a_picture_found_at_a_camera_without_pose_still_has_a_view_error():
    spherical = RING.spherical.copy()
    spherical[:16] = np.nan  # the pose of cam00 is unknown
    partly = with_positions(RING, spherical)
    target, unposed = 3 * 16 + 4, 4
    values = control_values(
        [command(2 * 16 + 4, target)],
        outcomes([command(2 * 16 + 4, target)], TRUTH[[unposed]], {"s": partly}, {"s": TRUTH}),
    )
    assert values["view.top1"] == [0] and np.isfinite(values["view.azimuth_error_deg"]).all()
    assert values["view.azimuth_error_deg"].size == 1


def test_six_cameras_are_neighbours_whatever_rounding_says():
    for turn in np.linspace(0, 1, 7):
        azimuth = wrap_angle(turn + 2 * np.pi * np.arange(6) / 6)
        six = with_positions(ring(6, 2), np.stack([azimuth, np.zeros(6), np.ones(6)], 1).repeat(2, axis=0))
        assert [len(six.neighbours_in_view(2 * camera)) for camera in range(6)] == [2] * 6


def test_rank_correlation():
    commanded = np.arange(8.0)
    assert sweep_correlation(commanded, 2 * commanded) == pytest.approx(1)
    assert sweep_correlation(commanded, -commanded) == pytest.approx(-1)
    assert sweep_correlation(commanded, np.zeros(8)) == 0
    assert sweep_correlation(commanded, np.array([0, 0, 1, 1, 2, 2, 3, 3.0])) == pytest.approx(0.9759, abs=1e-4)


def test_grids_come_from_the_frames_table(grid_scenes):
    grids = read_grids(grid_scenes.frames_table, grid_scenes.scenes_table)
    assert set(grids) == {"kick", "walk"}
    grid = grids["walk"]
    assert len(grid.keys) == NUM_CAMERAS * NUM_FRAMES
    angles = np.degrees(np.unique(grid.spherical[:, 0].round(6)))
    np.testing.assert_allclose(np.diff(angles), SPACING, atol=1e-3)
    assert grid.seen.time[grid.index(FrameKey("walk", "cam02", 8))] == 1
