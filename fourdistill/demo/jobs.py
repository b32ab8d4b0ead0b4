"""The running drawings of each session, so that its button, a newer one, or leaving the page can stop them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Jobs:
    """The stop signals of the running drawings by session, and whether each refines a preview."""

    def __init__(self):
        self._running: dict[str, dict[threading.Event, bool]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def running(self, session: str, *, refines: bool = False) -> Iterator[threading.Event]:
        """The stop signal of one drawing, registered while it runs.

        A new drawing stops the session's others. A refinement stops only refinements: a preview may be newer.
        """
        stop = threading.Event()
        with self._lock:
            jobs = self._running.setdefault(session, {})
            for other, other_refines in jobs.items():
                if other_refines or not refines:
                    other.set()
            jobs[stop] = refines
        try:
            yield stop
        finally:
            with self._lock:
                del jobs[stop]
                if not jobs:
                    del self._running[session]

    def stop(self, session: str) -> None:
        """Stop what a session is drawing, if anything."""
        with self._lock:
            for stop in self._running.get(session, {}):
                stop.set()
