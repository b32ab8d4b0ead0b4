"""Unpack a zip or tar file to a folder: member names are checked first, and links and devices are rejected."""

import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from fourdistill.errors import InputError
from fourdistill.sources.system_files import is_system_file
from fourdistill.storage.tars import BoundedTarInfo

MAX_MEMBERS = 1_000_000
MAX_RECORDS = 100  # in a tar's global headers
MAX_RATIO = 200  # unpacked size / archive size: films and pictures hardly compress, a decompression bomb does
MIN_BOUND = 1 << 20  # bytes; any archive may unpack to this size
# Errors that a damaged or malicious archive may raise.
_DAMAGE: tuple[type[Exception], ...] = (
    zipfile.BadZipFile, tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError, RuntimeError, ValueError,
    IndexError, OverflowError, struct.error,
)  # fmt: skip


@dataclass(frozen=True)
class _Member:
    """A regular file in an archive."""

    path: PurePosixPath
    size: int
    source: zipfile.ZipInfo | tarfile.TarInfo


def unpack(archive: Path, out: Path, folders: Sequence[tuple[str, str]] = ()) -> int:
    """Unpack the regular files of `archive`, except system files, into the folder `out`; return their number.

    `folders` are the (folder or file in the archive, name below `out`) to take. Without them everything is taken, and
    a single outer folder that contains only folders is stripped. Raises `InputError` for a damaged archive, a name that
    is absolute or leads out of the archive, a link or device, or absurd sizes; the contents of `out` are then unusable.
    """
    with _open(archive) as opened:
        members = _place(list(_members(archive, opened)), folders)
        if not members:
            raise InputError(f"{archive}: expected files{_named(folders)}, found none")
        if sum(member.size for _, member in members) > max(MIN_BOUND, MAX_RATIO * archive.stat().st_size):
            raise InputError(f"{archive}: expected to unpack to at most {MAX_RATIO} times its size")
        for target, member in members:
            _write(archive, opened, member, out / target)
    return len(members)


def _open(archive: Path) -> zipfile.ZipFile | tarfile.TarFile:
    try:
        if zipfile.is_zipfile(archive):
            return zipfile.ZipFile(archive)
        return tarfile.open(archive, tarinfo=BoundedTarInfo)
    except _DAMAGE as error:
        raise InputError(f"{archive}: expected a zip or tar file: {error}") from error


def _members(archive: Path, opened: zipfile.ZipFile | tarfile.TarFile) -> Iterator[_Member]:
    """Yield the regular files except system files; raises `InputError` for anything else but folders."""
    try:
        infos: Iterable[zipfile.ZipInfo | tarfile.TarInfo] = (
            opened.infolist() if isinstance(opened, zipfile.ZipFile) else opened
        )
        for number, info in enumerate(infos):
            if isinstance(opened, tarfile.TarFile) and len(opened.pax_headers) > MAX_RECORDS:
                raise InputError(f"{archive}: expected at most {MAX_RECORDS} records that hold for all members")
            if number >= MAX_MEMBERS:
                raise InputError(f"{archive}: expected at most {MAX_MEMBERS} members")
            if isinstance(info, zipfile.ZipInfo):
                name, size, is_folder = info.filename, info.file_size, info.is_dir()
                kind = stat.S_IFMT(info.external_attr >> 16)
                is_file = kind in (0, stat.S_IFREG)
            else:
                name, size, is_folder, is_file = info.name, info.size, info.isdir(), info.isreg()
                info.pax_headers = {}  # frees memory: together, the headers of all members would be large
            path = PurePosixPath(name)
            drive = len(name) > 1 and name[1] == ":"
            if path.is_absolute() or ".." in path.parts or drive or "\\" in name or "\0" in name:
                raise InputError(f"{archive}: member {ascii(name)[:200]}: expected a path inside the archive")
            if is_folder or any(map(is_system_file, path.parts)):
                continue
            if not is_file:
                raise InputError(f"{archive}: member {ascii(name)[:200]}: expected a file, found a link or device")
            yield _Member(path, size, info)
    except _DAMAGE as error:
        raise InputError(f"{archive}: expected a whole archive: {error}") from error


def _place(members: list[_Member], folders: Sequence[tuple[str, str]]) -> list[tuple[PurePosixPath, _Member]]:
    """The path of each member below the output folder."""
    if folders:
        return [
            (PurePosixPath(name) / member.path.relative_to(folder), member)
            for folder, name in folders
            for member in members
            if member.path.is_relative_to(folder)
        ]
    outer = {member.path.parts[0] for member in members}
    depth = min((len(member.path.parts) for member in members), default=0)
    strip = 1 if len(outer) == 1 and depth > 2 else 0
    return [(PurePosixPath(*member.path.parts[strip:]), member) for member in members]


def _named(folders: Sequence[tuple[str, str]]) -> str:
    return f" in {', '.join(folder for folder, _ in folders)}" if folders else ""


def _write(archive: Path, opened: zipfile.ZipFile | tarfile.TarFile, member: _Member, path: Path) -> None:
    """Write one member to a new file, and check its size against the header."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _reader(opened, member) as source, path.open("xb") as file:
            shutil.copyfileobj(source, file)
    except FileExistsError as error:
        raise InputError(f"{archive}: member {ascii(str(member.path))[:200]}: expected it once") from error
    except _DAMAGE as error:
        raise InputError(f"{archive}: member {ascii(str(member.path))[:200]}: expected it whole: {error}") from error
    if path.stat().st_size != member.size:
        raise InputError(f"{archive}: member {ascii(str(member.path))[:200]}: expected {member.size} bytes")


def _reader(opened: zipfile.ZipFile | tarfile.TarFile, member: _Member) -> IO[bytes]:
    if isinstance(opened, zipfile.ZipFile):
        assert isinstance(member.source, zipfile.ZipInfo)
        return opened.open(member.source)
    assert isinstance(member.source, tarfile.TarInfo)
    reader = opened.extractfile(member.source)
    assert reader is not None  # it is a regular file
    return reader
