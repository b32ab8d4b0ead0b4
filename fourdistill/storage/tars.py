"""Safe reading of untrusted tar files, with bounded memory.

Without these bounds, tarfile allocates as much memory for a member as its headers ask for.
"""

import tarfile
from typing import Any, NoReturn

MAX_EXTENDED = 2**16  # bytes of a member's long name or pax records, which hold only paths and numbers
_EXTENDED = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip


class BoundedTarInfo(tarfile.TarInfo):
    """For `tarfile.open(..., tarinfo=...)`: raises `tarfile.ReadError` for extended headers over `MAX_EXTENDED`.

    It also raises for sparse formats whose list of holes tarfile reads at any length; check `issparse()` for others.
    """

    __slots__ = ()

    @classmethod
    def frombuf(cls, buf: Any, encoding: Any, errors: Any) -> "BoundedTarInfo":
        """The 512 bytes of a header => the member it describes."""
        info = super().frombuf(buf, encoding, errors)
        if info.type in _EXTENDED and info.size > MAX_EXTENDED:
            raise tarfile.ReadError(f"expected an extended header of at most {MAX_EXTENDED} bytes, found {info.size}")
        if info.type == tarfile.GNUTYPE_SPARSE:
            cls._proc_gnusparse_10()
        return info

    @staticmethod
    def _proc_gnusparse_10(*_: Any) -> NoReturn:
        # Overrides tarfile's method for pax sparse format 1.0, where the list of holes is in the member itself.
        raise tarfile.ReadError("expected no file with holes")
