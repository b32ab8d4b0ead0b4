"""Real processes for the trainings of `train_toy.py`: alone or in gloo groups, started from a server that has imported
everything already."""

import multiprocessing
import os
import socket
import time
from pathlib import Path
from typing import Any

CONTEXT: Any = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["dvclive", "fourdistill.training.loop"])  # Python 3.11 finds no module of the tests
PATIENCE_S = 120  # for anything that a test waits for


def start(base: Path, shards: Path, folder: Path, world_size: int = 1, **changes) -> list[Any]:
    """Start a training on so many processes, with these settings changed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = (str(base), str(shards), folder, changes)
    group = [CONTEXT.Process(target=work, args=(rank, world_size, port, arguments)) for rank in range(world_size)]
    for process in group:
        process.start()
    return group


def work(rank: int, world_size: int, port: int, arguments: tuple) -> None:
    """What a process does: the training, as one of a group where there are several."""
    from train_toy import main

    if world_size > 1:
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size}
        os.environ |= {name: str(value) for name, value in names.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    main(*arguments)


def join(group: list[Any]) -> list[int]:
    """Wait for all of them; their exit statuses."""
    for process in group:
        process.join(PATIENCE_S)
    return [process.exitcode for process in group]


def run(*args, **kwargs) -> None:
    """Start a training and let it end well."""
    assert set(join(start(*args, **kwargs))) == {0}


def losses(folder: Path) -> list[tuple[int, float]]:
    """(step, training loss) of every step so far, by the logs."""
    path = folder / "live" / "plots" / "metrics" / "train.loss.tsv"
    rows = path.read_text().splitlines()[1:] if path.is_file() else []
    return [(int(step), float(loss)) for step, loss in (row.split("\t") for row in rows if row.count("\t") == 1)]


def wait_for_step(folder: Path, step: int) -> None:
    """Return when the logs have reached a step."""
    deadline = time.monotonic() + PATIENCE_S
    while not (rows := losses(folder)) or rows[-1][0] < step:
        assert time.monotonic() < deadline, f"step {step} was not reached: {rows}"
        time.sleep(0.005)
