"""Restart this program under `accelerate launch`: one process per device, on one or more machines."""

import json
import os
import shlex
import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import FrameType

from accelerate.commands import launch as commands
from accelerate.utils.launch import prepare_simple_launcher_cmd_env
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from fourdistill.errors import InputError
from fourdistill.training.runtime.preemption import PREEMPTED, Preempted

_CONFIG_SUFFIXES = (".yaml", ".yml", ".json")
_TOLD_TO_GO = (PREEMPTED, -signal.SIGTERM, 128 + signal.SIGTERM)


def is_launched() -> bool:
    """Whether `accelerate launch` or torchrun has started this process."""
    return "ACCELERATE_MIXED_PRECISION" in os.environ or "LOCAL_RANK" in os.environ


def launch_command(launcher: str) -> list[str]:
    """`launcher`, an accelerate config file or arguments of `accelerate launch` => the command that runs this program.

    The program keeps its arguments, and runs as a module if it does so now. Raises `InputError` if the file is
    missing.
    """
    arguments = shlex.split(launcher)
    if len(arguments) == 1 and launcher.endswith(_CONFIG_SUFFIXES):
        if not Path(launcher).is_file():
            raise InputError(f"train.launcher: {launcher}: expected a config file of accelerate, found none")
        arguments = ["--config_file", launcher]
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = [sys.argv[0]] if spec is None else ["--module", spec.name]
    return [sys.executable, "-m", "fourdistill.training.runtime.launch", *arguments, *program, *sys.argv[1:]]


def launch(launcher: str, report: Path) -> None:
    """Run the command until its processes have ended; SIGTERM is forwarded.

    Raises `Preempted` if they were told to go and the training's `report` says that they have saved. After any other
    failure, ends this program with its exit status, or with 1 if a signal ended it.
    """
    report.unlink(missing_ok=True)
    child = subprocess.Popen(launch_command(launcher))

    def pass_on(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # torch's agent abandons its processes at the third signal
        child.send_signal(number)

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        status = child.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
    if status == 0:
        return
    # The report alone does not tell: when one process fails, torch's agent terminates the others, and they report that
    # they were preempted.
    reported = json.loads(report.read_text(encoding="utf-8"))["status"] if report.is_file() else None
    if status in _TOLD_TO_GO and reported == "preempted":
        raise Preempted
    raise SystemExit(max(status, 1))


def run_accelerate() -> None:
    """Like `accelerate launch`, but forwards signals and exit statuses."""
    commands.simple_launcher = _become_program
    try:
        commands.main()
    except SignalException as told:
        raise SystemExit(128 + told.sigval) from told  # as a shell counts
    except ChildFailedError as failed:
        print(failed, file=sys.stderr)
        raise SystemExit(status_of(failed)) from failed


def status_of(failed: ChildFailedError) -> int:
    """The exit status of the process that failed first, not of those terminated because of it.

    torch distinguishes them only by whole seconds.
    """
    first = failed.get_first_failure()[1].exitcode
    own = [failure.exitcode for failure in failed.failures.values() if failure.exitcode not in _TOLD_TO_GO]
    return max(own[0] if own and first in _TOLD_TO_GO else first, 1)


def _become_program(args: Namespace) -> None:
    """Replace this process by a single process.

    accelerate would start a child and wait; SIGTERM would end accelerate and leave the child training as an orphan.
    """
    command, environment = prepare_simple_launcher_cmd_env(args)
    os.execvpe(command[0], command, environment)


if __name__ == "__main__":
    run_accelerate()
