"""Work in separate processes that signal themselves at their n-th file operation."""

import multiprocessing
import os
import signal as signals
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_TOUCHING = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir")

# One server for all, with the needed imports. With Python 3.11 it cannot import modules of the tests.
CONTEXT: Any = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["dvclive"]
    + [f"fourdistill.{name}" for name in ("frames.extract", "poses.estimate", "teacher.teach", "evaluation.evaluate")]
    + [f"fourdistill.{name}" for name in ("training.prior.train", "training.mappers.train", "inference.pipeline")]
)
PATIENCE_S = 120


class Touches:
    """Counts this process's file operations in `folder`; at the `moment`-th it sends itself the signal."""

    def __init__(self, folder: Path, moment: int | None = None, signal: int = signals.SIGKILL):
        self._folder, self._moment, self._signal, self.count = str(folder), moment, signal, 0
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple) -> None:
        if event in _TOUCHING and self._folder in str(arguments[0]):
            self.count += 1
            if self.count == self._moment:
                os.kill(os.getpid(), self._signal)


def count_touches(folder: Path, work: Callable[..., object], *arguments: Any) -> int:
    """Run `work(*arguments)` in a separate process, which must succeed; returns its file operations in `folder`."""
    status, count = _run(folder, None, work, arguments)
    assert status == 0, f"exit status {status}"
    return count


def kill(folder: Path, moment: int, work: Callable[..., object], *arguments: Any) -> None:
    """Run `work(*arguments)` in a separate process; kill -9 at its `moment`-th file operation in `folder`."""
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
    """Wait for a process of `CONTEXT`; None if it did not end in time and was killed."""
    process.join(PATIENCE_S)
    status = process.exitcode
    if status is None:
        process.kill()  # otherwise the tests would wait for it when they end
        process.join()
    return status


def _counted(folder: Path, moment: int | None, sender: Any, work: Callable[..., object], arguments: tuple) -> None:
    touches = Touches(folder, moment)
    work(*arguments)
    sender.send(touches.count)
