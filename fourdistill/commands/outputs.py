"""Files that a command is told to write."""

from pathlib import Path

from fourdistill.errors import InputError


def check_out(option: str, path: Path | None) -> None:
    """Raise `InputError` naming the option where the file cannot be written, before there is work to lose."""
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise InputError(f"{option}: expected a file in an existing folder, found {path}")
