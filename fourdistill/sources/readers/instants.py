"""Which pictures of several cameras belong to one instant: by their times or by their names, never by their places."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from fourdistill.sources.readers.listing import natural_key

SAME_TIME = 1e-4  # of the scene: what is left of times after they were rounded to be written down

Names = Mapping[str, Sequence[str]]  # of each camera's pictures


def instants_by_time(times: Sequence[float], cameras: Sequence[str] | None = None) -> list[int]:
    """Times (N,) => the number of each one's instant.

    Times belong together within half of the fastest camera's usual interval, as films' do, and a camera has one picture
    of each instant. Where it is not known who took what (`cameras` None), rounding alone is allowed for.
    """
    order = sorted(range(len(times)), key=lambda index: times[index])
    reach = _rounding(times) if cameras is None else max(_rounding(times), _half_interval(times, cameras))
    instants, first_time, present, number = [0] * len(times), -np.inf, set[str](), -1
    for index in order:
        camera = None if cameras is None else cameras[index]
        if times[index] - first_time > reach or camera in present:
            first_time, present, number = times[index], set(), number + 1
        if camera is not None:
            present.add(camera)
        instants[index] = number
    return instants


def _rounding(times: Sequence[float]) -> float:
    """How far apart two times of one instant may be written: little, and less than half of an interval."""
    num = len(set(times))
    return (max(times) - min(times)) * min(SAME_TIME, 0.5 / max(1, num - 1))


def _half_interval(times: Sequence[float], cameras: Sequence[str]) -> float:
    found = np.array(cameras)
    steps = [np.diff(np.sort(np.array(times)[found == camera])) for camera in sorted(set(cameras))]
    return min((float(np.median(step)) / 2 for step in steps if len(step)), default=0.0)


def instants_by_name(names: Names, unused: Names | None = None) -> dict[str, list[int]]:
    """Names of each camera's pictures, without endings => the number of each one's instant, in order of names.

    Pictures of one name belong to one instant. Where a camera shares no name with any other, the numbers in the names
    say it: those that change within a camera. Names that no picture uses (`unused`) keep their instants free.
    """
    unused = unused or {}
    everything = {camera: [*found, *unused.get(camera, ())] for camera, found in names.items()}
    keys: dict[str, list[tuple]] = {camera: [(name,) for name in found] for camera, found in everything.items()}
    if len(names) > 1 and not _all_share(keys):
        keys = _numbers(everything) or keys
    order = sorted({key for found in keys.values() for key in found}, key=_order)
    numbers = {key: number for number, key in enumerate(order)}
    return {camera: [numbers[key] for key in keys[camera][: len(found)]] for camera, found in names.items()}


def _order(key: tuple) -> tuple:
    return tuple(natural_key(part) if isinstance(part, str) else part for part in key)


def _all_share(keys: Mapping[str, Sequence[tuple]]) -> bool:
    """Whether every camera has a key in common with another one."""
    sets = {camera: set(found) for camera, found in keys.items()}
    return all(
        any(found & other for other_camera, other in sets.items() if other_camera != camera)
        for camera, found in sets.items()
    )


def _numbers(names: Names) -> dict[str, list[tuple]] | None:
    """The numbers in names that change within a camera; None where they do not tell a camera's pictures apart."""
    found = {camera: [[int(word) for word in re.findall("[0-9]{1,18}", name)] for name in of_camera]
             for camera, of_camera in names.items()}  # fmt: skip
    # Counted from the end: cameras' names may have numbers, too, and come first.
    width = min(len(numbers) for of_camera in found.values() for numbers in of_camera)
    columns = [
        column
        for column in range(-width, 0)
        if any(len({numbers[column] for numbers in of_camera}) > 1 for of_camera in found.values())
    ]
    keys = {
        camera: [tuple(numbers[column] for column in columns) for numbers in of_camera]
        for camera, of_camera in found.items()
    }
    apart = columns and all(len(set(of_camera)) == len(of_camera) for of_camera in keys.values())
    return keys if apart else None
