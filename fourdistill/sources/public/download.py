"""Download one file from a server or a package index: resume an interrupted download, and verify the result."""

import subprocess
import sys
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

from fourdistill.errors import InputError, one_line
from fourdistill.storage.files import sha256 as sha256_of

_CHUNK = 1 << 16  # bytes; an incomplete chunk is lost if the connection breaks
_TIMEOUT_S = (10, 60)  # to connect, and between two chunks of the file
_PARTIAL = 206
_RANGE_NOT_SATISFIABLE = 416
# For failed connections and busy servers, before the transfer starts; the next call resumes an interrupted transfer.
_RETRIES = Retry(total=4, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False)


def download(url: str, path: Path, *, size: int | None = None, sha256: str | None = None) -> str:
    """Download `url` to `path` and return its SHA-256; an existing correct file is kept.

    Partial data is kept in `<path>.part`, and the next call resumes from it if the server still has the same file.
    Raises `InputError` if the download fails or ends early, or if the size or checksum differs.
    """
    part, validator = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.etag")
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with requests.Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(max_retries=_RETRIES))
            try:
                _receive(session, url, part, validator, size)
            except requests.RequestException as error:
                raise InputError(f"{url}: expected to download it: {_reason(error)}; call again to go on") from error
    return _verify(path, part, validator, url, size, sha256)


def _receive(session: requests.Session, url: str, part: Path, validator: Path, size: int | None) -> None:
    """Append the missing bytes of `url` to `part`; restart if the file has changed or the server lacks ranges."""
    have = part.stat().st_size if part.is_file() and validator.is_file() else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator.read_text(encoding="utf-8")}
    with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as response:
        if response.status_code == _RANGE_NOT_SATISFIABLE:  # complete already; size and checksum are verified later
            return
        if not response.ok:
            raise InputError(f"{url}: expected to download it: status {response.status_code} {response.reason}")
        going_on = response.status_code == _PARTIAL
        length = response.headers.get("Content-Length")
        total = None if length is None else int(length) + (have if going_on else 0)
        if size is not None and total is not None and total != size:
            raise InputError(f"{url}: expected {size} bytes, the server has {total}")
        tag = response.headers.get("ETag", "")
        # A weak tag does not guarantee the same bytes; without a tag, a second try restarts.
        tag = "" if tag.startswith("W/") else tag or response.headers.get("Last-Modified", "")
        validator.unlink(missing_ok=True)
        with part.open("ab" if going_on else "wb") as file:
            if tag:
                validator.write_text(tag, encoding="utf-8")
            with tqdm(
                total=total, initial=have if going_on else 0, unit="B", unit_scale=True, desc=part.stem
            ) as progress:
                for chunk in response.iter_content(_CHUNK):
                    if size is not None and file.tell() + len(chunk) > size:
                        raise InputError(f"{url}: expected {size} bytes, the server sends more")
                    file.write(chunk)
                    progress.update(len(chunk))


def _reason(error: requests.RequestException) -> str:
    """The innermost cause, in one line."""
    inner: BaseException = error
    while inner.__context__ is not None:
        inner = inner.__context__
    return one_line(inner)


def _verify(path: Path, part: Path, validator: Path, url: str, size: int | None, sha256: str | None) -> str:
    """Rename `part` to `path` if it is correct; otherwise remove it, because more bytes cannot repair it."""
    found = part if part.is_file() and not path.is_file() else path
    digest = sha256_of(found)
    wrong_size = size is not None and found.stat().st_size != size
    if wrong_size or (sha256 is not None and digest != sha256):
        expected = f"{size} bytes" if wrong_size else f"SHA-256 {sha256}"
        got = str(found.stat().st_size) if wrong_size else digest
        found.unlink()
        validator.unlink(missing_ok=True)
        raise InputError(f"{url}: expected {expected}, got {got}; the file is removed")
    if found is part:
        validator.unlink(missing_ok=True)
        part.replace(path)
    return digest


def download_wheel(requirement: str, folder: Path, *, sha256: str | None = None) -> tuple[Path, str]:
    """Download a wheel, for any platform, with pip into `folder`; returns its path and SHA-256.

    Raises `InputError` if pip fails or the checksum differs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name, version = requirement.split("==")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    if not (wheels := sorted(folder.glob(f"{name}-{version}-*.whl"))):
        done = subprocess.run(
            [*pip, "--only-binary=:all:", "--dest", str(folder), requirement], capture_output=True, text=True
        )
        wheels = sorted(folder.glob(f"{name}-{version}-*.whl"))
        if done.returncode or not wheels:
            lines = done.stderr.strip().splitlines() or ["pip said nothing"]
            raise InputError(f"{requirement}: expected pip to download it: {lines[-1]}")
    digest = sha256_of(wheels[0])
    if sha256 is not None and digest != sha256:
        wheels[0].unlink()
        raise InputError(f"{requirement}: expected SHA-256 {sha256}, got {digest}; the file is removed")
    return wheels[0], digest
