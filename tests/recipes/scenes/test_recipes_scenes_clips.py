"""Motions by name, and the cuts of the shipped recordings."""

import numpy as np
import pytest
from body import Shape, build_body
from clips import CLIPS, COMPOSED, CUTS, GROUPS, HELD_OUT, cut_clip, expand_groups, load_clip, parts
from dataset import posed
from motion import (
    JOINT_NAMES,
    LEGS,
    combine_clips,
    mirror_clip,
    reverse_clip,
    rotation_matrix,
    sample_clip,
    world_rotations,
)
from skinning import FINGERS, rig_body

BUILDS = (
    Shape("female", "young", 0.5, 0.4, 1.55, (0.2, 0.3, 0.5)),
    Shape("male", "old", 0.4, 0.8, 1.9, (0.5, 0.3, 0.2)),
)
AIRBORNE = {name for name in CUTS if name.startswith("leap")}


def test_names_say_what_is_mirrored_and_reversed():
    assert parts("walk") == [("walk", False, False)]
    assert parts("run-mirrored+box_a-mirrored-reversed") == [("run", True, False), ("box_a", True, True)]
    for wrong in ("fly", "walk-reversed-mirrored", "walk+run+kick", "walk+", "known", "walk-mirrored-mirrored"):
        with pytest.raises(ValueError, match="expected a motion"):
            parts(wrong)


def test_there_are_sixty_motions_to_train_on_and_none_shows_what_is_held_out():
    known = GROUPS["known"]
    assert len(set(known)) == len(known) >= 60
    assert len([name for name in known if name in CLIPS or name in CUTS]) >= 55  # unchanged recordings
    assert not set(known) & set(HELD_OUT)
    shown = {part for name in known for part, _, _ in parts(name)}
    assert not shown & {name for name in HELD_OUT if name in CUTS}
    assert {name for name in HELD_OUT if name in CUTS} | shown == {*CLIPS, *CUTS}
    for name in (*COMPOSED, *HELD_OUT):
        assert parts(name)
    assert expand_groups(["walk", "held_out"]) == ["walk", *HELD_OUT]


def test_cuts_last_one_to_four_seconds_and_none_overlaps_another():
    for name, cut in CUTS.items():
        clip = cut_clip(cut)
        assert 1 <= clip.duration <= 4, name
        for other, another in CUTS.items():
            apart = cut.end <= another.start or another.end <= cut.start
            assert name == other or cut.recording != another.recording or apart, (name, other)


@pytest.mark.parametrize("name", CUTS)
def test_a_cut_faces_forward_moves_and_bends_as_people_do(name):
    clip = cut_clip(CUTS[name])
    forward = rotation_matrix(clip.rotations[0, 0])[:, 0]
    assert forward[0] > 0 and forward[2] == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(clip.root_positions[0, [0, 2]], 0)
    steps = np.abs(np.sum(clip.rotations[1:] * clip.rotations[:-1], axis=2)).clip(0, 1)
    degrees = np.rad2deg(2 * np.arccos(steps))
    assert degrees.sum(0).mean() / clip.duration > 50  # per second, on average over the joints
    assert degrees.max() < 60  # between frames: no jumps
    for joint, sign in (("knee", -1), ("elbow", 1)):
        for side in ("left", "right"):
            hinge = clip.rotations[:, JOINT_NAMES.index(f"{side}_{joint}")]
            assert np.abs(hinge[:, 1:3]).max() < 1e-6
            angle = 2 * np.arctan2(hinge[:, 3], hinge[:, 0])
            angle = (angle + np.pi) % (2 * np.pi) - np.pi
            assert (sign * angle > -1e-3).all() and np.abs(angle).max() < np.deg2rad(170)


def degrees_apart(ours, others):
    """Mean angle between the joints' world rotations (N, 13, 4) of two motions."""
    return np.rad2deg(2 * np.arccos(np.abs(np.sum(ours * others, axis=-1)).clip(0, 1))).mean()


@pytest.mark.network
def test_no_motion_is_another_and_what_is_held_out_is_new(wheels):
    def moments(clip):
        times = np.linspace(0, clip.duration, 9)
        return np.array([list(world_rotations(sample_clip(clip, time)[1]).values()) for time in times])

    clips = {name: load_clip(wheels, name) for name in (*GROUPS["known"], *HELD_OUT)}
    shown = {name: (moments(clip), moments(mirror_clip(clip))) for name, clip in clips.items()}
    for name in clips:
        nearest = min(degrees_apart(shown[name][0], view) for other in GROUPS["known"] if other != name
                      for view in shown[other])  # fmt: skip
        assert nearest > (19 if name in HELD_OUT else 10), name


@pytest.mark.network
@pytest.mark.parametrize("build", BUILDS, ids=["small", "tall and heavy"])
def test_everybody_stands_on_the_floor(wheels, build):
    rigging = rig_body(build_body(wheels, build))
    counts = rigging.body.influence("hand", *FINGERS) < 0.1
    for name, cut in CUTS.items():
        clip = cut_clip(cut)
        lowest = np.array([posed(rigging, clip, time)[counts, 1].min() for time in np.linspace(0, clip.duration, 5)])
        assert lowest.min() > -0.06, name
        assert lowest.min() < 0.03, name
        assert (lowest.max() < 0.06) or (name in AIRBORNE and lowest.max() < 0.5), name


@pytest.mark.network
def test_made_motions_are_made_of_what_they_say(wheels):
    walk, punch = load_clip(wheels, "walk"), load_clip(wheels, "punch")
    both, made = combine_clips(walk, mirror_clip(punch)), load_clip(wheels, "walk+punch-mirrored")
    np.testing.assert_array_equal(made.rotations, both.rotations)
    backwards = load_clip(wheels, "walk-reversed")
    assert backwards.duration == walk.duration
    above = [number for number, joint in enumerate(JOINT_NAMES) if joint != "root"]
    for seconds in (0.0, 0.3, walk.duration):
        expected = sample_clip(walk, walk.duration - seconds)[1]
        found = sample_clip(backwards, seconds)[1]
        np.testing.assert_allclose(np.abs(np.sum(found * expected, axis=1))[above], 1, atol=1e-9)
    legs = [number for number, joint in enumerate(JOINT_NAMES) if joint.endswith(LEGS)]
    cut = load_clip(wheels, "box_c")
    np.testing.assert_array_equal(load_clip(wheels, "box_c+dance_a").rotations[:, legs], cut.rotations[:, legs])


def test_reversing_twice_changes_nothing():
    clip = cut_clip(CUTS["leap_a"])
    twice = reverse_clip(reverse_clip(clip))
    np.testing.assert_allclose(twice.times, clip.times, atol=1e-12)
    np.testing.assert_array_equal(twice.rotations, clip.rotations)
    np.testing.assert_array_equal(twice.root_positions, clip.root_positions)
