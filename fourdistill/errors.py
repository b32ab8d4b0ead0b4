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
