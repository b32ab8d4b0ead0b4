"""The address of the page: checked before models are loaded, and reached without proxies."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from fourdistill.errors import InputError

CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def check_address(host: str, port: int) -> str:
    """The host to listen at: `host`, or its first available address if this machine lacks some of its addresses.

    The second case is `localhost` with IPv6 disabled. Raises `InputError` if this machine has none of the addresses or
    the port is not free.
    """
    wrong = f"--host: expected a name or address of this machine, found {host!r}"
    try:
        if not host:
            raise OSError("empty")
        found = socket.getaddrinfo(bare(host), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InputError(wrong) from error
    bound: list[str] = []
    missing: OSError | None = None
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
                probe.bind(address)
                bound.append(str(address[0]))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                raise InputError(_port_error(error, host, port)) from error
            missing = error
    if not bound:
        raise InputError(wrong) from missing
    return host if missing is None else bound[0]  # given a name, the server requires all of its addresses


def _port_error(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"--port: expected a free port, found {port} of {host} taken"
    return f"--port: expected one that you may listen at, found {port}"


def bare(host: str) -> str:
    """A host without the brackets that URLs put around IPv6 addresses."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def bracketed(host: str) -> str:
    """A host as written in a URL: IPv6 addresses in brackets."""
    return f"[{bare(host)}]" if ":" in host else host


@contextmanager
def without_proxies() -> Iterator[None]:
    """Disable all proxies of the environment and the system: the server requests only its own page."""
    hidden = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if name.lower().endswith("_proxy") or name in CERTIFICATES
    }
    os.environ["no_proxy"] = "*"  # otherwise the settings of macOS and Windows apply
    try:
        yield
    finally:
        del os.environ["no_proxy"]
        os.environ |= hidden
