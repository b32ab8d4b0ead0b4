"""Models by name: a local folder, or `owner/repo` on the Hub, from which only the needed files are fetched."""

import re
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HFValidationError, HTTPError  # HTTPError: of whichever HTTP client the Hub uses

from fourdistill.errors import InputError, one_line

OPTIONS = ("revision", "token", "cache_dir", "local_files_only", "force_download")
_NAME = re.compile(r"[\w.-]+/[\w.-]+(/[\w.-]+)*")


def split_name(name: str, expected: str) -> tuple[str, str]:
    """`owner/repo/some/folder` => `owner/repo` and `some/folder`; raises `InputError` for any other name."""
    if not _NAME.fullmatch(name) or Path(name).parent.is_dir():  # a local path with a wrong last part
        raise InputError(f"{name}: expected {expected}, there is no such file or folder")
    owner, repo, *inside = name.split("/")
    return f"{owner}/{repo}", "/".join(inside)


def fetch_files(repo: str, patterns: list[str], expected: str, name: str, **options: Any) -> Path:
    """The local folder of a Hub repository with the files that match these patterns, or the cached ones.

    `options` are the Hub's (`OPTIONS`). Raises `InputError` naming `name`.
    """
    try:
        return Path(snapshot_download(repo, allow_patterns=patterns, **options))
    except (HTTPError, HFValidationError, OSError) as error:
        reason = one_line(error)
        raise InputError(f"{name}: expected {expected}, or one on the Hub: {reason}") from error


def list_files(repo: str, folder: Path, **options: Any) -> set[str]:
    """The names of all files of a repository; if the Hub cannot be reached, of those in the local folder."""
    known = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if options.get("local_files_only"):
        return known
    try:
        return set(HfApi().list_repo_files(repo, revision=options.get("revision"), token=options.get("token")))
    except (HTTPError, OSError):
        return known
