"""Checks of a command's output files."""

from pathlib import Path

from fourdistill.storage.files import check_writable


def check_out(option: str, path: Path | None) -> None:
    """Raise `InputError` naming the option if the file cannot be written, before any work is done."""
    if path is not None:
        check_writable(path, option)
