"""Fetching byte ranges from any file system, with timeouts and retries.

s3fs and botocore retry S3 errors and broken connections. Tenacity covers the rest: very slow connections, longer
outages, and HTTP, which fsspec tries only once.
"""

from aiohttp import ClientResponseError
from fsspec.asyn import AsyncFileSystem
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from fourdistill.storage.addresses import CONNECTION_ERRORS, open_filesystem

_TRIES = 3
_TOO_BUSY = 429


class Fetcher:
    """One file from the network, in ranges of bytes.

    Args:
        url: its address.
        size: in bytes, if known; else the file system is asked. If it does not know either, the file is fetched whole.
        timeout_s: limit of each request.
    """

    def __init__(self, url: str, size: int | None, timeout_s: float):
        self.filesystem, self.path = open_filesystem(url)
        self._limit = {"timeout": timeout_s} if isinstance(self.filesystem, AsyncFileSystem) else {}
        self.size = size if size is not None else self._retrying(self.filesystem.info, self.path).get("size")

    def read(self, start: int, end: int | None) -> bytes:
        """Bytes from `start` to before `end`, or all; fewer at the file's end. Raises `OSError` or similar."""
        if end is None:
            return self._retrying(self.filesystem.cat_file, self.path)
        data = self._retrying(self.filesystem.cat_file, self.path, start=start, end=end)
        return data if len(data) <= end - start else data[start:end]  # for servers without range support

    def _retrying(self, call, *args, **kwargs):
        retrying = Retrying(
            stop=stop_after_attempt(_TRIES),
            wait=wait_random_exponential(multiplier=0.2, max=5),
            retry=retry_if_exception(_may_pass),
            reraise=True,
        )
        return retrying(call, *args, **kwargs, **self._limit)


def _may_pass(error: BaseException) -> bool:
    """Whether a retry may help that s3fs has not already made."""
    if isinstance(error, ClientResponseError):
        return error.status >= 500 or error.status == _TOO_BUSY
    return isinstance(error, CONNECTION_ERRORS)
