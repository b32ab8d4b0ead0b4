"""The running drawings of each session, so that its button, or leaving the page, can stop them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Jobs:
    """The stop signals of the running drawings, by session."""

    def __init__(self):
        self._running: dict[str, list[threading.Event]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def running(self, session: str) -> Iterator[threading.Event]:
        """The stop signal of one drawing, registered while it runs."""
        stop = threading.Event()
        with self._lock:
            self._running.setdefault(session, []).append(stop)
        try:
            yield stop
        finally:
            with self._lock:
                self._running[session].remove(stop)
                if not self._running[session]:
                    del self._running[session]

    def stop(self, session: str) -> None:
        """Stop what a session is drawing, if anything."""
        with self._lock:
            for stop in self._running.get(session, []):
                stop.set()
