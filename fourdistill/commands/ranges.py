"""Values of a command-line option: one, a list, or a range => numbers."""

import numpy as np

from fourdistill.errors import InputError

MAX_VALUES = 1000


def parse_values(option: str, text: str | None) -> list[float] | None:
    """`0.25`, `-0.5,0,0.5` or `-0.5:0.5:9` (from:to:count, both ends included) => numbers; None stays None.

    Raises `InputError` naming the option.
    """
    if text is None:
        return None
    expected = f"{option}: expected a number, a list a,b,c or a range from:to:count"
    try:
        if ":" not in text:
            values = [float(part) for part in text.split(",")]
        else:
            first, last, count = text.split(":")
            if not 1 <= int(count) <= MAX_VALUES:
                raise InputError(f"{option}: expected a count from 1 to {MAX_VALUES}, got {count}")
            values = np.linspace(float(first), float(last), int(count)).tolist()
    except ValueError as error:
        raise InputError(f"{expected}, got {text!r}") from error
    if not np.isfinite(values).all():
        raise InputError(f"{expected}, got {text!r}")
    return values
