"""Match pictures of several cameras to instants by their times or names, never by their positions in a list."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from fourdistill.sources.readers.listing import natural_key

SAME_TIME = 1e-4  # of the scene's duration: tolerance for times that were rounded in a file

Names = Mapping[str, Sequence[str]]  # camera => names of its pictures


def instants_by_time(times: Sequence[float], cameras: Sequence[str] | None = None) -> list[int]:
    """Times (N,) => the number of the instant of each.

    Times within half of the fastest camera's median interval form one instant, as for films, with at most one picture
    per camera. If the camera of each picture is unknown (`cameras` None), only rounding differences are tolerated.
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
    """The largest rounding difference between two times of one instant: at most half the mean interval."""
    num = len(set(times))
    return (max(times) - min(times)) * min(SAME_TIME, 0.5 / max(1, num - 1))


def _half_interval(times: Sequence[float], cameras: Sequence[str]) -> float:
    found = np.array(cameras)
    steps = [np.diff(np.sort(np.array(times)[found == camera])) for camera in sorted(set(cameras))]
    return min((float(np.median(step)) / 2 for step in steps if len(step)), default=0.0)


def instants_by_name(names: Names, unused: Names | None = None) -> dict[str, list[int]]:
    """Names of each camera's pictures, without extensions => the number of the instant of each, in order of names.

    Pictures with the same name belong to one instant. If a camera shares no name with any other, the numbers in the
    names that vary within a camera are compared instead. `unused` names also get instants, which stay empty.
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
    """Whether every camera shares a key with another camera."""
    sets = {camera: set(found) for camera, found in keys.items()}
    return all(
        any(found & other for other_camera, other in sets.items() if other_camera != camera)
        for camera, found in sets.items()
    )


def _numbers(names: Names) -> dict[str, list[tuple]] | None:
    """The numbers in names that vary within a camera; None if they do not distinguish a camera's pictures."""
    found = {camera: [[int(word) for word in re.findall("[0-9]{1,18}", name)] for name in of_camera]
             for camera, of_camera in names.items()}  # fmt: skip
    # Counted from the end, because numbers of camera names may come first.
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
