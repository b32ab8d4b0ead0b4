"""Start this program anew under `accelerate launch`: one process per device, on one machine or several."""

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
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from fourdistill.errors import InputError
from fourdistill.training.runtime.preemption import PREEMPTED, Preempted

_CONFIG_SUFFIXES = (".yaml", ".yml", ".json")
_TOLD_TO_GO = (PREEMPTED, -signal.SIGTERM)


def is_launched() -> bool:
    """Whether `accelerate launch` or torchrun has started this process."""
    return "ACCELERATE_MIXED_PRECISION" in os.environ or "LOCAL_RANK" in os.environ


def launch_command(launcher: str) -> list[str]:
    """`launcher`, an accelerate config file or arguments of `accelerate launch` => the command that runs this program.

    The program keeps its arguments, and runs as a module where it does so now. Raises `InputError` where the file is
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
    """Run the command until its processes have ended; SIGTERM is passed on.

    Raises `Preempted` where the training was, by its `report`, and ends this program with the status of any other
    failure, or with 1 where a signal was the end.
    """
    report.unlink(missing_ok=True)
    child = subprocess.Popen(launch_command(launcher))

    def pass_on(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # at a third one torch's agent would abandon its processes
        child.send_signal(number)

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        status = child.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
    if status == 0:
        return
    # torch's agent ends by the signal itself, whatever its processes ended with.
    if report.is_file() and json.loads(report.read_text(encoding="utf-8"))["status"] == "preempted":
        raise Preempted
    raise SystemExit(max(status, 1))


def run_accelerate() -> None:
    """What `accelerate launch` does, in such a way that signals and exit statuses pass through it."""
    commands.simple_launcher = _become_program
    try:
        commands.main()
    except ChildFailedError as failed:
        print(failed, file=sys.stderr)
        raise SystemExit(status_of(failed)) from failed


def status_of(failed: ChildFailedError) -> int:
    """The status of the process that failed first, and not of those that were told to go because of it.

    torch tells them apart by whole seconds.
    """
    first = failed.get_first_failure()[1].exitcode
    own = [failure.exitcode for failure in failed.failures.values() if failure.exitcode not in _TOLD_TO_GO]
    return max(own[0] if own and first in _TOLD_TO_GO else first, 1)


def _become_program(args: Namespace) -> None:
    """Start a single process in the place of this one.

    accelerate would wait beside it, be ended by SIGTERM, and leave it to train on with nobody waiting.
    """
    command, environment = prepare_simple_launcher_cmd_env(args)
    os.execvpe(command[0], command, environment)


if __name__ == "__main__":
    run_accelerate()
