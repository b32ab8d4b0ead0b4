"""Work in processes of its own that signal themselves at a moment: when they touch files for the n-th time."""

import multiprocessing
import os
import signal as signals
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_TOUCHING = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir")

# One server for all, which has imported what they need. Python 3.11 finds no module of the tests there.
CONTEXT: Any = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["dvclive"]
    + [f"fourdistill.{name}" for name in ("frames.extract", "poses.estimate", "evaluation.evaluate")]
    + [f"fourdistill.{name}" for name in ("training.prior.train", "training.mappers.train", "inference.pipeline")]
)
PATIENCE_S = 120


class Touches:
    """Counts how often this process touches files in `folder`; at the `moment`-th time it gets the signal."""

    def __init__(self, folder: Path, moment: int | None = None, signal: int = signals.SIGKILL):
        self._folder, self._moment, self._signal, self.count = str(folder), moment, signal, 0
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple) -> None:
        if event in _TOUCHING and self._folder in str(arguments[0]):
            self.count += 1
            if self.count == self._moment:
                os.kill(os.getpid(), self._signal)


def count_touches(folder: Path, work: Callable[..., object], *arguments: Any) -> int:
    """Let `work(*arguments)` end well in a process of its own; how often it touched files in `folder`."""
    status, count = _run(folder, None, work, arguments)
    assert status == 0, f"exit status {status}"
    return count


def kill(folder: Path, moment: int, work: Callable[..., object], *arguments: Any) -> None:
    """Start `work(*arguments)` in a process of its own; kill -9 when it touches `folder` for the `moment`-th time."""
    status, _ = _run(folder, moment, work, arguments)
    assert status == -signals.SIGKILL, f"exit status {status}"


def _run(folder: Path, moment: int | None, work: Callable[..., object], arguments: tuple) -> tuple[int | None, int]:
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_counted, args=(folder, moment, sender, work, arguments))
    process.start()
    sender.close()
    status = exit_status(process)
    return status, receiver.recv() if status == 0 else 0


def exit_status(process: Any) -> int | None:
    """Wait for a process of `CONTEXT`; None where it did not end in time, and was killed."""
    process.join(PATIENCE_S)
    status = process.exitcode
    if status is None:
        process.kill()  # else the tests would wait for it at their own end
        process.join()
    return status


def _counted(folder: Path, moment: int | None, sender: Any, work: Callable[..., object], arguments: tuple) -> None:
    touches = Touches(folder, moment)
    work(*arguments)
    sender.send(touches.count)
