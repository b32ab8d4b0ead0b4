"""Shards to blocks of bytes: from disk, remotely with read-ahead across shards, or through a cache."""

import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from fsspec.implementations.local import LocalFileSystem
from pydantic.dataclasses import dataclass as pydantic_dataclass

from fourdistill.config import STRICT, Fraction, PositiveFloat, PositiveInt
from fourdistill.shards.loader.fetch import Fetcher
from fourdistill.shards.loader.shard_cache import ShardCache
from fourdistill.shards.loader.shard_list import Shard
from fourdistill.storage.addresses import ACCESS_ERRORS, open_filesystem
from fourdistill.storage.files import sha256

BLOCK = 8 * 2**20  # bytes per request: each S3 request costs 3 ms of CPU time, however small
_LOCAL_BLOCK = 2**20
_MAX_REQUESTS = 8  # at a time


@pydantic_dataclass(frozen=True, config=STRICT)
class ReadOptions:
    """How shards are read. The defaults are those of `train.loader` in `params.yaml`, for readers in notebooks."""

    max_bad_fraction: Fraction = 0.05  # reading stops if more than this fraction of the shards is lost
    shuffle_buffer: PositiveInt = 2000  # number of samples from which the next one is drawn
    resampled: bool = False  # draw shards with replacement, endlessly, instead of reading each once per epoch
    verify: bool = False  # compare each shard with the checksum in the index before its first sample is used
    read_ahead_mb: PositiveFloat = 16.0  # amount of data that each worker fetches in advance
    timeout_s: PositiveFloat = 60.0  # limit of one request, of at most 8 MiB
    cache_dir: str | None = None  # local folder for fetched shards
    cache_gb: PositiveFloat = 10.0  # size limit of that folder, for all its users together


@dataclass
class Blocks:
    """The bytes of one shard, in order. Iterating raises `OSError` or similar if they cannot be read."""

    shard: Shard
    size: int | None
    """Expected number of bytes; None if unknown."""
    iterator: Iterator[bytes]


class Opener:
    """Opens the shards of one source, all at the same kind of address."""

    def __init__(self, options: ReadOptions):
        self._options = options
        self._cache = ShardCache(Path(options.cache_dir), options.cache_gb * 1e9) if options.cache_dir else None

    def open_all(self, shards: Sequence[Shard]) -> Iterator[Callable[[], Blocks]]:
        """A function that opens it, for each shard. Of remote shards, the next is already being fetched."""
        if not shards:
            return
        if isinstance(open_filesystem(shards[0].url)[0], LocalFileSystem):
            yield from ((lambda shard=shard: self._open_local(shard)) for shard in shards)
            return
        whole = self._options.verify or self._cache is not None
        depth = max(1, min(_MAX_REQUESTS, round(self._options.read_ahead_mb * 1e6 / BLOCK)))
        pool = ThreadPoolExecutor(2 if whole else depth, thread_name_prefix="read-ahead")
        try:
            yield from self._open_whole(pool, shards) if whole else self._open_ranges(pool, shards, depth)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _open_local(self, shard: Shard) -> Blocks:
        file = Path(open_filesystem(shard.url)[1]).open("rb")  # noqa: SIM115 - closed when it has been read
        try:
            self._check(shard, file)
        except BaseException:
            file.close()
            raise
        return _from_file(shard, file)

    def _open_whole(self, pool: ThreadPoolExecutor, shards: Sequence[Shard]) -> Iterator[Callable[[], Blocks]]:
        """Fetch whole shards into files, one ahead."""
        futures = deque([pool.submit(self._download, shards[0])])
        for shard, following in zip(shards, [*shards[1:], None], strict=True):
            if following is not None:
                futures.append(pool.submit(self._download, following))
            future = futures.popleft()
            yield lambda shard=shard, future=future: _from_file(shard, future.result())

    def _download(self, shard: Shard) -> BinaryIO:
        """A file with the shard's bytes, verified if requested."""
        fetcher = Fetcher(shard.url, shard.bytes, self._options.timeout_s)

        def write(file: BinaryIO) -> None:
            for start, end in _ranges(fetcher.size):
                file.write(fetcher.read(start, end))

        check = partial(self._check, shard)
        if self._cache is not None:
            key = f"{shard.url} {shard.sha256 or fetcher.filesystem.ukey(fetcher.path)}"
            cached = self._cache.get(key, fetcher.size, write, check)
            if cached is not None:
                return cached
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when it has been read
        try:
            write(file)
            check(file)
        except BaseException:
            file.close()
            raise
        return file

    def _check(self, shard: Shard, file: BinaryIO) -> None:
        """If checksums are to be verified, raise `OSError` unless the file's matches the index."""
        if self._options.verify:
            file.seek(0)
            if (found := sha256(file)) != shard.sha256:
                raise OSError(f"sha256: expected {shard.sha256} by the index, found {found}")

    def _open_ranges(
        self, pool: ThreadPoolExecutor, shards: Sequence[Shard], depth: int
    ) -> Iterator[Callable[[], Blocks]]:
        """Fetch block by block, `depth` requests ahead, possibly of the following shards."""
        window = _Window(pool, shards, depth, self._options.timeout_s)
        for index in range(len(shards)):
            yield lambda index=index: window.open(index)


class _Window:
    """The pending requests, in the order in which their bytes will be read."""

    def __init__(self, pool: ThreadPoolExecutor, shards: Sequence[Shard], depth: int, timeout_s: float):
        self._pool, self._shards, self._depth, self._timeout_s = pool, shards, depth, timeout_s
        self._waiting: deque[tuple[int, Future[bytes]]] = deque()
        self._requests = self._plan()
        self._sizes: dict[int, int | None] = {}
        self._failed: dict[int, Exception] = {}
        self._current = 0

    def _plan(self) -> Iterator[tuple[int, Fetcher, int, int | None]]:
        for index, shard in enumerate(self._shards):
            try:
                fetcher = Fetcher(shard.url, shard.bytes, self._timeout_s)
            except ACCESS_ERRORS as error:
                self._failed[index] = error  # raised when the shard is opened
                continue
            self._sizes[index] = fetcher.size
            for start, end in _ranges(fetcher.size):
                if index < self._current:
                    break  # it broke off
                yield index, fetcher, start, end

    def _fill(self) -> None:
        while len(self._waiting) < self._depth:
            request = next(self._requests, None)
            if request is None:
                return
            index, fetcher, start, end = request
            self._waiting.append((index, self._pool.submit(fetcher.read, start, end)))

    def open(self, index: int) -> Blocks:
        """Open the next shard; raises the file system's error."""
        self._current = index
        while self._waiting and self._waiting[0][0] < index:  # left over from an interrupted shard
            self._waiting.popleft()[1].cancel()
        self._fill()
        if index in self._failed:
            raise self._failed[index]
        return Blocks(self._shards[index], self._sizes[index], self._blocks(index))

    def _blocks(self, index: int) -> Iterator[bytes]:
        while True:
            self._fill()
            if not self._waiting or self._waiting[0][0] != index:
                return
            block = self._waiting.popleft()[1].result()
            yield block
            if len(block) % BLOCK and self._waiting and self._waiting[0][0] == index:
                return  # the file is shorter than expected


def _ranges(size: int | None) -> Iterator[tuple[int, int | None]]:
    if size is None:
        yield 0, None
        return
    for start in range(0, size, BLOCK):
        yield start, min(start + BLOCK, size)


def _from_file(shard: Shard, file: BinaryIO) -> Blocks:
    def blocks() -> Iterator[bytes]:
        with file:
            while block := file.read(_LOCAL_BLOCK):
                yield block

    size = file.seek(0, 2)
    file.seek(0)
    return Blocks(shard, size if shard.bytes is None else shard.bytes, blocks())
