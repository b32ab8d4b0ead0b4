"""Addresses of files: a local path, `s3://...`, `https://...`, or any other URL that fsspec opens.

S3 credentials, endpoint and region come from the standard AWS configuration: AWS_PROFILE, AWS_ENDPOINT_URL, ~/.aws/.
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
    """Return an address's fsspec file system and the path in it. Raises `InputError` if fsspec cannot open it."""
    try:
        return fsspec.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise InputError(f"{address}: expected a path, or an address such as s3://bucket/prefix/: {error}") from error


def _botocore_errors(*names: str) -> tuple[type[Exception], ...]:
    """The S3 errors that s3fs does not convert to an `OSError`; empty without the extra `s3`."""
    try:
        errors = importlib.import_module("botocore.exceptions")
    except ImportError:
        return ()
    return tuple(getattr(errors, name) for name in names)


# Errors that file systems raise when access fails, and the subset for which a retry may succeed.
ACCESS_ERRORS = (OSError, ClientError, TimeoutError, *_botocore_errors("BotoCoreError", "ClientError"))
CONNECTION_ERRORS = (
    FSTimeoutError, TimeoutError, ClientError, *_botocore_errors("EndpointConnectionError", "ConnectTimeoutError")
)  # fmt: skip


@contextmanager
def reading(address: str, expected: str) -> Iterator[None]:
    """Convert any access error at an address to a one-line `InputError`."""
    try:
        yield
    except PermissionError as error:
        raise InputError(f"{address}: expected {expected}, but access was denied: {describe(error)}") from error
    except FileNotFoundError as error:
        raise InputError(f"{address}: expected {expected}, found nothing there") from error
    except ACCESS_ERRORS as error:
        raise InputError(f"{address}: expected {expected}: {describe(error)}") from error


def describe(error: BaseException) -> str:
    """The message of an error, as one line of bounded length."""
    # WebDataset appends streams and addresses to the arguments; the first argument is the original message.
    text = getattr(error, "strerror", None) or str(error.args[0] if error.args else "no reason given")
    return f"{type(error).__name__}: {' '.join(text.split())[:300]}"
