"""Parts of files from any file system, each within a time limit, and again where a connection failed.

s3fs and botocore try again by themselves what S3 answers with an error or cuts off. They leave a connection that only
drips, a server that takes longer to come back, and HTTP, which fsspec tries once: Tenacity does those.
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
        size: bytes, where they are known; else the file system is asked. None there too: it is fetched whole.
        timeout_s: limit of each request.
    """

    def __init__(self, url: str, size: int | None, timeout_s: float):
        self.filesystem, self.path = open_filesystem(url)
        self._limit = {"timeout": timeout_s} if isinstance(self.filesystem, AsyncFileSystem) else {}
        self.size = size if size is not None else self._retrying(self.filesystem.info, self.path).get("size")

    def read(self, start: int, end: int | None) -> bytes:
        """Bytes from `start` to before `end`, or all; fewer where the file ends. Raises `OSError` and its like."""
        if end is None:
            return self._retrying(self.filesystem.cat_file, self.path)
        data = self._retrying(self.filesystem.cat_file, self.path, start=start, end=end)
        return data if len(data) <= end - start else data[start:end]  # a server that knows no ranges

    def _retrying(self, call, *args, **kwargs):
        retrying = Retrying(
            stop=stop_after_attempt(_TRIES),
            wait=wait_random_exponential(multiplier=0.2, max=5),
            retry=retry_if_exception(_may_pass),
            reraise=True,
        )
        return retrying(call, *args, **kwargs, **self._limit)


def _may_pass(error: BaseException) -> bool:
    """Whether another try may help that s3fs has not made already."""
    if isinstance(error, ClientResponseError):
        return error.status >= 500 or error.status == _TOO_BUSY
    return isinstance(error, CONNECTION_ERRORS)
