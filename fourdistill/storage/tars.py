"""Tars from outside, taken apart within bounds.

What tarfile reads whole, or makes up, to get at a member is otherwise as large as some header says.
"""

import tarfile
from typing import Any, NoReturn

MAX_EXTENDED = 2**16  # bytes of a long name, or of the pax records of a member: both are paths and numbers
_EXTENDED = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip


class BoundedTarInfo(tarfile.TarInfo):
    """For `tarfile.open(..., tarinfo=...)`: raises `tarfile.ReadError` at extended headers beyond `MAX_EXTENDED`.

    So it does at files with holes, as far as tarfile reads a list of holes of any length; others are `issparse()`.
    """

    __slots__ = ()

    @classmethod
    def frombuf(cls, buf: Any, encoding: Any, errors: Any) -> "BoundedTarInfo":
        """A header's 512 bytes => what it describes."""
        info = super().frombuf(buf, encoding, errors)
        if info.type in _EXTENDED and info.size > MAX_EXTENDED:
            raise tarfile.ReadError(f"expected an extended header of at most {MAX_EXTENDED} bytes, found {info.size}")
        if info.type == tarfile.GNUTYPE_SPARSE:
            cls._proc_gnusparse_10()
        return info

    @staticmethod
    def _proc_gnusparse_10(*_: Any) -> NoReturn:
        # tarfile's own method, which it calls for holes as pax records announce them in the member itself.
        raise tarfile.ReadError("expected no file with holes")
