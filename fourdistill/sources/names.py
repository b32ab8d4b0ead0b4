"""Matching of names in descriptions, lists, parameters and on disk."""

from pathlib import PurePosixPath
from unicodedata import normalize
from urllib.parse import unquote


def canonical(name: str) -> str:
    """The canonical spelling of a relative path, for both sides of a look-up.

    Forward slashes, no `./`, and composed letters (NFC): Windows writes backslashes, macOS decomposes letters (NFD).
    """
    return normalize("NFC", str(PurePosixPath(name.replace("\\", "/"))))


def spellings(name: str) -> list[str]:
    """Possible spellings on disk of a file named in a description, most likely first; the case never changes."""
    slashed = name.replace("\\", "/")
    words = [slashed, unquote(slashed), slashed.strip()]
    # The unchanged name comes first: a backslash, a space or a %20 may be part of it.
    return list(dict.fromkeys([name, *(normalize(form, word) for word in words for form in ("NFC", "NFD"))]))


def printable(name: str) -> str:
    """A name or path as text, with escapes for bytes that are not UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()
