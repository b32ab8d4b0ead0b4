"""When two names are the same: those in descriptions and lists, in the parameters, and on disk."""

from pathlib import PurePosixPath
from unicodedata import normalize
from urllib.parse import unquote


def canonical(name: str) -> str:
    """The one spelling of a relative path, for both sides of a look-up.

    Forward slashes, no `./`, and composed letters: Windows writes backslashes, macOS takes letters apart (NFD).
    """
    return normalize("NFC", str(PurePosixPath(name.replace("\\", "/"))))


def spellings(name: str) -> list[str]:
    """How a file that a description names may be spelt on disk, likeliest first: never in another case."""
    slashed = name.replace("\\", "/")
    words = [slashed, unquote(slashed), slashed.strip()]
    # As it is first: a backslash, a space or a %20 may be part of it.
    return list(dict.fromkeys([name, *(normalize(form, word) for word in words for form in ("NFC", "NFD"))]))


def printable(name: str) -> str:
    """A name or path as text: what of it is no UTF-8 as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()
