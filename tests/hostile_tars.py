"""Beginnings of tars crafted to make a reader use too much memory."""

import gzip
import tarfile

HUGE = 2**20 + 1  # more than names and records need


def header(name: str, kind: bytes, size: int) -> bytes:
    """A header block of 512 bytes with a correct checksum."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def long_name(size: int = HUGE) -> bytes:
    """A name of a megabyte."""
    return header("././@LongLink", tarfile.GNUTYPE_LONGNAME, size) + padded(b"n" * size)


def long_records(kind: bytes = tarfile.XHDTYPE) -> bytes:
    """A megabyte of pax records."""
    return header("records", kind, HUGE) + padded(b"c" * HUGE)


def names_upon_names() -> bytes:
    """Long-name headers that each describe the next, so that tarfile recurses."""
    return long_name(8) * 3000


def records(name: str, length: int, **values: str) -> bytes:
    """A member of size `length`, overridden by pax records."""
    info = tarfile.TarInfo(name)
    info.size, info.pax_headers = length, {key.replace("_", "."): value for key, value in values.items()}
    return info.tobuf(tarfile.PAX_FORMAT)


def old_holes(name: str, size: int) -> bytes:
    """A sparse file that is only a hole, in GNU tar's old format."""
    block = bytearray(header(name, tarfile.GNUTYPE_SPARSE, 0))
    block[386:410] = b"%011o\0%011o\0" % (size, 0)
    block[483:495] = b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def holes(name: str, size: int) -> bytes:
    """The same in pax records."""
    return records(name, 0, GNU_sparse_map=f"{size},0", GNU_sparse_size=str(size))


def holes_in_the_member(name: str, size: int) -> bytes:
    """The same with the list of holes at the start of the member."""
    listed = padded(b"1\n%d\n0\n" % size)
    said = {"GNU_sparse_major": "1", "GNU_sparse_minor": "0", "GNU_sparse_realsize": str(size)}
    return records(name, len(listed), **said) + listed


def compressed(tar: bytes) -> bytes:
    """Gzip whose first 512 bytes look like the header of a member that contains the rest."""
    body = gzip.compress(tar, mtime=0)[10:]
    end = -(-len(body) // 512) * 512
    start = bytearray(b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 501 + b"\0")  # gzip's file name field
    start[95:100], start[124:136], start[156:157] = b".json", b"%012o" % end, tarfile.REGTYPE
    assert len(start) == 512 and gzip.decompress(start + body) == tar
    return bytes(start) + body + bytes(end - len(body)) + bytes(1024)
