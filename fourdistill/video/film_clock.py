"""From a film's packets to its frames and their times: the container's, never a count where there are any."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PacketTime:
    """What one packet says of itself; times in seconds, None where it says none."""

    shown_s: Fraction | None
    decoded_s: Fraction | None
    is_key: bool
    is_cut: bool = False
    """Whether an edit list cuts it away: it is decoded for others, not shown."""


@dataclass(frozen=True)
class FrameList:
    """N frames, in the order in which they are shown."""

    times_s: NDArray[np.float64]
    packets: NDArray[np.int64]
    skipped: frozenset[int]
    num_without_picture: int
    assumed_fps: float | None = None


def continue_clock(packets: Sequence[PacketTime]) -> list[PacketTime]:
    """Where the clock jumps back, as where recordings were joined, it goes on by one interval instead."""
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
    """The earliest presentation time becomes 0."""
    zero = min((packet.shown_s for packet in packets if packet.shown_s is not None), default=Fraction(0))
    return [packet if packet.shown_s is None else replace(packet, shown_s=packet.shown_s - zero) for packet in packets]


def list_frames(packets: Sequence[PacketTime], decoded: Sequence[int], num_fed: int) -> FrameList | None:
    """The frames of a film, judged by its first `num_fed` packets, of which those `decoded` gave a frame, in order.

    A packet with a presentation time has a frame, one without is a part of another's (a second field), and what comes
    before the first frame cannot be shown. None where that is not so: then all of the film must be decoded to know.
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
    """The frames of a film all of which was `decoded`, in order; `fps` counts where neither time is in the file."""
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
    """The packet at which decoding can begin; the first of all where none is said to be one."""
    return next((number for number, packet in enumerate(packets) if packet.is_key), 0)
