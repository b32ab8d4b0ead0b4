"""A film's frames and their times, from its packets; times are counted only if the container has none."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PacketTime:
    """Times and flags of one packet; times in seconds, None if missing."""

    shown_s: Fraction | None
    decoded_s: Fraction | None
    is_key: bool
    is_cut: bool = False
    """Whether an edit list cuts it: it is not shown, and decoded only because others need it."""


@dataclass(frozen=True)
class FrameList:
    """N frames in display order."""

    times_s: NDArray[np.float64]
    packets: NDArray[np.int64]
    skipped: frozenset[int]
    num_without_picture: int
    assumed_fps: float | None = None


def continue_clock(packets: Sequence[PacketTime]) -> list[PacketTime]:
    """Replace each backward jump of the clock, as between joined recordings, with one interval."""
    continued, shift = [], Fraction(0)
    last_s, interval = None, Fraction(0)
    for packet in packets:
        if packet.decoded_s is not None:
            now = packet.decoded_s + shift
            if last_s is not None and now < last_s:
                shift += last_s + interval - now
                now = last_s + interval
            elif last_s is not None:
                interval = now - last_s
            last_s = now
        shown = None if packet.shown_s is None else packet.shown_s + shift
        continued.append(replace(packet, shown_s=shown))
    return continued


def count_from_first(packets: Sequence[PacketTime]) -> list[PacketTime]:
    """Shift the times so that the earliest presentation time is 0."""
    zero = min((packet.shown_s for packet in packets if packet.shown_s is not None), default=Fraction(0))
    return [packet if packet.shown_s is None else replace(packet, shown_s=packet.shown_s - zero) for packet in packets]


def list_frames(packets: Sequence[PacketTime], decoded: Sequence[int], num_fed: int) -> FrameList | None:
    """The frames of a film, inferred from its packets, or None if the whole film must be decoded.

    The rule: a packet with a presentation time has a frame, a packet without one is part of another frame (a second
    field), and packets before the first frame cannot be shown. It is checked on the first `num_fed` packets, of which
    those `decoded` gave a frame, in order.
    """
    first = first_key(packets)
    times = {
        number: packet.shown_s
        for number, packet in enumerate(packets)
        if number >= first and packet.shown_s is not None and not packet.is_cut
    }
    if not decoded or not times.keys() >= set(decoded):
        return None
    start, stop = times[decoded[0]], times[decoded[-1]]
    expected = sorted((time, number) for number, time in times.items() if number < num_fed and start <= time <= stop)
    if [number for _, number in expected] != list(decoded):
        return None
    shown = sorted((time, number) for number, time in times.items() if time >= start)
    skipped = frozenset([*range(first), *(number for number, time in times.items() if time < start)])
    return FrameList(
        np.array([float(time) for time, _ in shown]),
        np.array([number for _, number in shown]),
        skipped,
        sum(not packets[number].is_cut for number in skipped),
    )


def list_decoded(packets: Sequence[PacketTime], decoded: Sequence[int], fps: float) -> FrameList:
    """The frames of a completely `decoded` film, in order; `fps` gives the times if the packets have neither kind."""
    numbers = np.array(decoded, np.int64)
    shown = [packets[number].shown_s for number in decoded]
    times, assumed = sorted(time for time in shown if time is not None), None
    if len(times) < len(numbers):
        times = sorted(time for number in decoded if (time := packets[number].decoded_s) is not None)
    if len(times) < len(numbers):
        times, assumed = [Fraction(index) / Fraction(fps) for index in range(len(numbers))], fps
    timed = {number for number, packet in enumerate(packets) if packet.shown_s is not None and not packet.is_cut}
    return FrameList(
        np.array([float(time) for time in times]),
        numbers,
        frozenset(range(first_key(packets))),
        len(timed - set(decoded)),
        assumed,
    )


def first_key(packets: Sequence[PacketTime]) -> int:
    """The first key packet, at which decoding can begin; 0 if no packet is marked as a key."""
    return next((number for number, packet in enumerate(packets) if packet.is_key), 0)
