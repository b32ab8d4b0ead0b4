"""Pre-emption: a cluster reclaims a machine with SIGTERM; the training saves its state before it exits."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from accelerate import Accelerator

PREEMPTED = 75  # the exit status: EX_TEMPFAIL of sysexits.h, "try again later"


class Preempted(SystemExit):
    """Ends the program with status `PREEMPTED` after the state has been saved; the same command resumes."""

    def __init__(self):
        super().__init__(PREEMPTED)


class Preemption:
    """A context in which SIGTERM is recorded instead of ending the program."""

    def __init__(self):
        self.noted = False
        self._before: Any = None

    def __enter__(self) -> "Preemption":
        if threading.current_thread() is threading.main_thread():  # Python allows handlers only there
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.noted = True

    def asked(self, accelerator: Accelerator) -> bool:
        """Whether any process received SIGTERM; all processes get the same answer at the same step."""
        if accelerator.num_processes == 1:
            return self.noted
        if self.noted:
            accelerator.set_trigger()
        return accelerator.check_trigger()
