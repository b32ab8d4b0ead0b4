"""Start this program anew under `accelerate launch`: one process per device, on one machine or several."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from fourdistill.errors import InputError
from fourdistill.training.preemption import PREEMPTED, Preempted

_CONFIG_SUFFIXES = (".yaml", ".yml", ".json")


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
    return [sys.executable, "-m", "accelerate.commands.launch", *arguments, *program, *sys.argv[1:]]


def launch(launcher: str, report: Path) -> None:
    """Run the command to its end; SIGTERM is passed on. Raises `Preempted` where the training was, by its `report`.

    `accelerate launch` ends with status 1 whatever its processes ended with: any other failure is raised as 1.
    """
    report.unlink(missing_ok=True)
    child = subprocess.Popen(launch_command(launcher))

    def pass_on(number: int, frame: FrameType | None) -> None:
        child.send_signal(number)

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        status = child.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
    if status == 0:
        return
    # The launcher may report the signal as its own end before its processes have written.
    if report.is_file() and json.loads(report.read_text(encoding="utf-8"))["status"] == "preempted":
        raise Preempted
    raise SystemExit(1 if status != PREEMPTED else PREEMPTED)
