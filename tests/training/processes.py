"""Real processes for the trainings of `train_toy.py`, single or in gloo groups, forked from a server that has already
imported everything."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from touches import CONTEXT, Touches, exit_status


@dataclass(frozen=True)
class Harm:
    """A signal that the first process sends to itself at its `moment`-th file operation in its folder.

    Every step is logged there, so the moments fall into steps, logging and the writing of checkpoints.
    """

    signal: int
    moment: int


def start(
    base: Path,
    shards: Path,
    folder: Path,
    world_size: int = 1,
    harm: Harm | None = None,
    environment: dict[str, str] | None = None,
    **changes: Any,
) -> list[Any]:
    """Start a training on `world_size` processes, with added environment variables and changed settings."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = (str(base), str(shards), folder, changes)
    group = [
        CONTEXT.Process(target=work, args=(rank, world_size, port, harm, environment or {}, arguments))
        for rank in range(world_size)
    ]
    for process in group:
        process.start()
    return group


def work(
    rank: int, world_size: int, port: int, harm: Harm | None, environment: dict[str, str], arguments: tuple
) -> None:
    """Run the training in one process, which is part of a group if `world_size` is above 1."""
    from train_toy import main

    touches = None
    if rank == 0:
        touches = Touches(arguments[2], *(() if harm is None else (harm.moment, harm.signal)))
    os.environ |= environment
    if world_size > 1:
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size}
        os.environ |= {name: str(value) for name, value in names.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    main(*arguments)
    if touches is not None:
        (arguments[2] / "touched").write_text(str(touches.count))


def join(group: list[Any]) -> list[int | None]:
    """Wait for all processes; returns their exit statuses."""
    return [exit_status(process) for process in group]


def run(*args, **kwargs) -> None:
    """Run a training, which must succeed."""
    statuses = join(start(*args, **kwargs))
    assert not any(statuses) and None not in statuses, f"exit statuses {statuses}"


def losses(folder: Path) -> list[tuple[int, float]]:
    """(step, training loss) of every step so far, from the logs."""
    path = folder / "live" / "plots" / "metrics" / "train.loss.tsv"
    rows = path.read_text().splitlines()[1:] if path.is_file() else []
    return [(int(step), float(loss)) for step, loss in (row.split("\t") for row in rows if row.count("\t") == 1)]
