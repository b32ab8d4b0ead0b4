"""Errors that are not bugs: invalid input, and operations that the operating system refuses."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

# No permission, a read-only or full disk, a name that is too long, or a file that is too large.
REFUSALS = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.EFBIG}
)


class InputError(Exception):
    """Bad input: `str(error)` is one line naming the file, the field and what was expected; exit status 2."""


def one_line(error: BaseException, longest: int = 1000) -> str:
    """Another library's error message on one line, truncated because it may quote a whole file."""
    return (" ".join(str(error).split()) or type(error).__name__)[:longest]


@contextmanager
def refusals_as_input_errors() -> Iterator[None]:
    """Convert refusals by the operating system to an `InputError` that names the file; other errors pass unchanged."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        named = "" if error.filename is None else f"{error.filename}: "
        raise InputError(f"{named}{error.strerror}") from error
