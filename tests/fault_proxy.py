"""A proxy between a client and an HTTP server that injects network faults into answers."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

Fault = Callable[["Answer"], None]


class Answer(BaseHTTPRequestHandler):
    """One forwarded request; a fault may change its answer."""

    protocol_version = "HTTP/1.1"
    server: "FaultProxy"

    def do_GET(self) -> None:
        """Forward the request, unless a fault is set for it."""
        self.server.requests.append((self.command, self.path, self.headers.get("Range")))
        for part, fault in list(self.server.faults.items()):
            if self.command == "GET" and part in self.path:
                fault(self)
                return
        self.pass_on()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def fetch(self) -> tuple[http.client.HTTPResponse, bytes]:
        """Fetch the true answer."""
        length = int(self.headers.get("Content-Length") or 0)
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=30)
        # The Host header is kept: it is part of the client's signature.
        upstream.request(self.command, self.path, self.rfile.read(length) if length else None, dict(self.headers))
        response = upstream.getresponse()
        return response, response.read()

    def start(self, response: http.client.HTTPResponse, body: bytes) -> None:
        """Send the headers of the true answer."""
        self.send_response_only(response.status)
        for name, value in response.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        length = response.headers.get("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()

    def pass_on(self) -> None:
        """Send the true answer unchanged."""
        response, body = self.fetch()
        self.start(response, body)
        self.wfile.write(body)

    def cut(self) -> None:
        """Send half of the body, then close the connection."""
        response, body = self.fetch()
        self.start(response, body)
        self.wfile.write(body[: len(body) // 2])
        self.close_connection = True

    def drip(self) -> None:
        """Send the body byte by byte, slowly."""
        response, body = self.fetch()
        self.start(response, body)
        try:
            for byte in body:
                if self.server.stopping.wait(0.2):
                    return
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
        except OSError:
            pass  # the client gave up
        self.close_connection = True

    def unavailable(self) -> None:
        """Send status 503."""
        body = b"<Error><Code>ServiceUnavailable</Code><Message>later</Message></Error>"
        self.send_response_only(503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


class FaultProxy(ThreadingHTTPServer):
    """Serves on a free port of loopback. `faults`: a part of a path => the fault for answers to its GET requests."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, upstream: str, port: int):
        super().__init__(("127.0.0.1", port), Answer)
        self.upstream = urlsplit(upstream).netloc
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.faults: dict[str, Fault] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.stopping = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore errors: clients that disconnect are expected."""


def times(number: int, fault: Fault) -> Fault:
    """A fault that happens `number` times."""
    left = [number]
    lock = threading.Lock()

    def some(answer: Answer) -> None:
        with lock:
            happens, left[0] = left[0] > 0, left[0] - 1
        (fault if happens else Answer.pass_on)(answer)

    return some


def from_byte(start: int, fault: Fault) -> Fault:
    """A fault only of answers whose range begins at `start` or later; without a range it begins at 0."""

    def late(answer: Answer) -> None:
        first = (answer.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0]
        (fault if int(first) >= start else Answer.pass_on)(answer)

    return late


@contextmanager
def running_proxy(upstream: str, port: int = 0) -> Iterator[FaultProxy]:
    """A proxy for the duration of a `with` block; `port` 0: any free port."""
    proxy = FaultProxy(upstream, port)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.stopping.set()
        proxy.shutdown()
        proxy.server_close()
        thread.join()
