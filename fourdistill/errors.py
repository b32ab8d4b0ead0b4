"""What is no fault of the program: input that is wrong, and what the machine refuses."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

# No permission, a read-only or full disk, a name too long or a file too large for it.
REFUSALS = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.EFBIG}
)


class InputError(Exception):
    """Bad input: `str(error)` is one line naming the file, the field and what was expected; exit status 2."""


def one_line(error: BaseException, longest: int = 1000) -> str:
    """What another library says of a fault, as a part of one line: it may quote all of a file."""
    return (" ".join(str(error).split()) or type(error).__name__)[:longest]


@contextmanager
def refusals_as_input_errors() -> Iterator[None]:
    """What the machine refuses becomes an `InputError` that names the file; every other error stays what it is."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        named = "" if error.filename is None else f"{error.filename}: "
        raise InputError(f"{named}{error.strerror}") from error
