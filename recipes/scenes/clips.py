"""Motions by name: the fifteen clips of the wheel, cuts of three recordings, and motions composed of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from assets import motion_frames
from motion import Clip, combine_clips, mirror_clip, parse_clip, reverse_clip, turn_clip
from safetensors.numpy import load_file

RECORDINGS = Path(__file__).parent / "recordings.safetensors"

CLIPS = (
    "backflip", "cartwheel", "crawl", "dance_a", "dance_b", "getup_facedown", "getup_faceup", "jump", "kick", "punch",
    "roll", "run", "spin", "spinkick", "walk",
)  # fmt: skip


@dataclass(frozen=True)
class Cut:
    """A piece of one of the recordings of `retarget.py`, in seconds."""

    recording: str
    start: float
    end: float


def _cuts(recording: str, **spans: tuple[float, float]) -> dict[str, Cut]:
    return {name: Cut(recording, *span) for name, span in spans.items()}


# Start and end of each were chosen by eye, between two actions. Cuts do not overlap. Seven jumps that look like
# `leap_b` and `leap_c` are left out.
CUTS = (
    _cuts(
        "playground_jumps",
        leap_a=(1.3, 2.7), leap_b=(5.8, 7.2), turn_a=(8.2, 9.9), leap_c=(12.0, 13.7), turn_b=(16.1, 17.7),
    )
    | _cuts(
        "playground_climbs",
        walk_a=(0.1, 1.3), walk_b=(1.3, 2.6), climb_a=(2.6, 4.0), climb_b=(4.0, 5.4), stoop_a=(5.4, 7.0),
        stoop_b=(7.0, 8.6), stoop_c=(8.6, 10.0), climb_c=(10.0, 11.4), straighten_a=(11.4, 12.8), reach_a=(12.8, 14.2),
        hang_a=(14.2, 15.6), swing_a=(15.6, 17.4), let_go_a=(18.0, 19.6), climb_d=(19.6, 21.0), climb_e=(21.0, 22.4),
        stoop_d=(22.4, 24.0), stoop_e=(24.0, 25.2), climb_f=(25.2, 26.6), straighten_b=(26.6, 27.8),
        walk_c=(27.8, 29.0), reach_b=(29.0, 30.4), hang_b=(30.9, 32.4), swing_b=(32.4, 34.4), let_go_b=(34.4, 35.6),
        turn_c=(35.6, 37.5),
    )
    | _cuts(
        "boxing",
        box_a=(1.2, 2.6), box_b=(2.6, 4.2), box_c=(4.4, 6.0), box_d=(6.0, 7.2), box_e=(7.2, 8.6), box_f=(8.6, 10.0),
        box_g=(10.0, 11.6), box_h=(11.6, 13.2), box_i=(13.4, 15.0), box_j=(15.0, 16.6), box_k=(16.6, 18.2),
        box_l=(18.2, 20.0), box_m=(20.0, 21.4), box_n=(21.4, 22.6), sit_down=(22.6, 24.6), sit_turn=(26.4, 28.0),
        crouch=(28.0, 29.2), stand_up=(29.2, 30.5),
    )
)  # fmt: skip

# For tests on unseen motions: no training data may show any of these.
HELD_OUT = (
    "climb_f", "swing_b", "reach_b", "let_go_b", "box_d", "box_i", "box_k", "stand_up",
    # for benchmarks/unseen_motion.yaml: the clips are known, their combinations are not
    "run+punch", "walk+dance_a", "kick+dance_b", "walk+spinkick",
)  # fmt: skip
# Motions composed of known ones, for more variety in training.
COMPOSED = (
    "run+box_c", "walk+box_e", "jump+dance_a", "dance_b+box_f", "walk_a+dance_b", "leap_a+box_g", "spin+hang_a",
    "box_h+dance_a", "kick+reach_a", "climb_a+punch", "turn_a+punch-mirrored", "walk+climb_b",
    "walk-reversed", "leap_b-reversed", "kick-reversed", "sit_down-reversed", "dance_a-reversed", "box_m-reversed",
)  # fmt: skip
GROUPS = {
    "known": (*CLIPS, *(name for name in CUTS if name not in HELD_OUT), *COMPOSED),
    "held_out": HELD_OUT,
}

ONE = re.compile(rf"(?P<name>{'|'.join((*CLIPS, *CUTS))})(?P<mirrored>-mirrored)?(?P<reversed>-reversed)?")


def expand_groups(names: Sequence[str]) -> list[str]:
    """`names` with every name of `GROUPS` replaced by the motions of that group."""
    return [motion for name in names for motion in GROUPS.get(name, (name,))]


def parts(name: str) -> list[tuple[str, bool, bool]]:
    """A motion's name => for each of its clips: name, whether mirrored, whether reversed.

    Raises `ValueError` with what was expected.
    """
    matches = [ONE.fullmatch(part) for part in name.split("+")]
    if len(matches) > 2 or None in matches:
        raise ValueError("expected a motion of recipes/scenes/README.md, or two as in walk+punch-mirrored")
    return [(match["name"], bool(match["mirrored"]), bool(match["reversed"])) for match in matches if match]


def load_clip(folder: Path, name: str) -> Clip:
    """The motion `name`; `folder` holds the wheels.

    A clip or a cut, optionally `-mirrored` and `-reversed`, or two of them joined: `walk+punch` has the legs of the
    first and the rest of the second.
    """
    clips = []
    for part, mirrored, backwards in parts(name):
        clip = parse_clip(motion_frames(folder, part)) if part in CLIPS else cut_clip(CUTS[part])
        clip = mirror_clip(clip) if mirrored else clip
        clips.append(turn_clip(reverse_clip(clip)) if backwards else clip)
    return clips[0] if len(clips) == 1 else combine_clips(*clips)


def cut_clip(cut: Cut) -> Clip:
    """The frames of a cut as a clip that starts at 0 s, above the origin, facing +x."""
    whole = _recording(cut.recording)
    inside = (whole.times >= cut.start) & (whole.times <= cut.end)
    piece = Clip(whole.times[inside] - whole.times[inside][0], whole.root_positions[inside], whole.rotations[inside])
    return turn_clip(piece)


@cache
def _recording(name: str) -> Clip:
    """A whole recording, as saved by `retarget.py`."""
    tensors = load_file(RECORDINGS)
    times, positions, rotations = (tensors[f"{name}.{part}"] for part in ("times", "root_positions", "rotations"))
    return Clip(times.astype(float), positions.astype(float), rotations.astype(float))
