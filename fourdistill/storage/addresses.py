"""Addresses of files: a local path, `s3://...`, `https://...`, or whatever else fsspec opens.

Credentials, endpoint and region of S3 come the usual AWS way: AWS_PROFILE, AWS_ENDPOINT_URL, ~/.aws/ and so on.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec
from aiohttp import ClientError
from fsspec.exceptions import FSTimeoutError

from fourdistill.errors import InputError


def open_filesystem(address: str) -> tuple[Any, str]:
    """The fsspec file system of an address, and the path there. Raises `InputError` where there is none."""
    try:
        return fsspec.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise InputError(f"{address}: expected a path, or an address such as s3://bucket/prefix/: {error}") from error


def _botocore_errors(*names: str) -> tuple[type[Exception], ...]:
    """S3's own errors that s3fs does not turn into an `OSError`; none without the extra `s3`."""
    try:
        errors = importlib.import_module("botocore.exceptions")
    except ImportError:
        return ()
    return tuple(getattr(errors, name) for name in names)


# What file systems raise where something cannot be had, and where it might be had a little later.
ACCESS_ERRORS = (OSError, ClientError, TimeoutError, *_botocore_errors("BotoCoreError", "ClientError"))
CONNECTION_ERRORS = (
    FSTimeoutError, TimeoutError, ClientError, *_botocore_errors("EndpointConnectionError", "ConnectTimeoutError")
)  # fmt: skip


@contextmanager
def reading(address: str, expected: str) -> Iterator[None]:
    """What goes wrong at an address becomes an `InputError` in one line."""
    try:
        yield
    except PermissionError as error:
        raise InputError(f"{address}: expected {expected}, but access was denied: {describe(error)}") from error
    except FileNotFoundError as error:
        raise InputError(f"{address}: expected {expected}, found nothing there") from error
    except ACCESS_ERRORS as error:
        raise InputError(f"{address}: expected {expected}: {describe(error)}") from error


def describe(error: BaseException) -> str:
    """What an error says, in one line of bounded length."""
    # WebDataset adds streams and addresses to the arguments: the message is what was there before.
    text = getattr(error, "strerror", None) or str(error.args[0] if error.args else "no reason given")
    return f"{type(error).__name__}: {' '.join(text.split())[:300]}"
