"""Models by name: a local folder, or `owner/repo`, of which only what is loaded is fetched from the Hub."""

import re
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HFValidationError, HTTPError  # the latter of whichever client it uses

from fourdistill.errors import InputError, one_line

OPTIONS = ("revision", "token", "cache_dir", "local_files_only", "force_download")
_NAME = re.compile(r"[\w.-]+/[\w.-]+(/[\w.-]+)*")


def split_name(name: str, expected: str) -> tuple[str, str]:
    """`owner/repo/some/folder` => `owner/repo` and `some/folder`; raises `InputError` where it is no such name."""
    if not _NAME.fullmatch(name) or Path(name).parent.is_dir():  # a local path whose last part is wrong
        raise InputError(f"{name}: expected {expected}, there is no such file or folder")
    owner, repo, *inside = name.split("/")
    return f"{owner}/{repo}", "/".join(inside)


def fetch_files(repo: str, patterns: list[str], expected: str, name: str, **options: Any) -> Path:
    """The local folder of a repository on the Hub with the files of these patterns, or with those that are cached.

    `options` are the Hub's (`OPTIONS`). Raises `InputError` in the `name` that was given.
    """
    try:
        return Path(snapshot_download(repo, allow_patterns=patterns, **options))
    except (HTTPError, HFValidationError, OSError) as error:
        reason = one_line(error)
        raise InputError(f"{name}: expected {expected}, or one on the Hub: {reason}") from error


def list_files(repo: str, folder: Path, **options: Any) -> set[str]:
    """The names of all files of a repository; where the Hub cannot be asked, of those in the local folder."""
    known = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if options.get("local_files_only"):
        return known
    try:
        return set(HfApi().list_repo_files(repo, revision=options.get("revision"), token=options.get("token")))
    except (HTTPError, OSError):
        return known
