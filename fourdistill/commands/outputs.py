"""Files that a command is told to write."""

from pathlib import Path

from fourdistill.storage.files import check_writable


def check_out(option: str, path: Path | None) -> None:
    """Raise `InputError` naming the option where the file cannot be written, before there is work to lose."""
    if path is not None:
        check_writable(path, option)
