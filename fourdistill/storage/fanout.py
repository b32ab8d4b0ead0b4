"""Parallel work over processes or machines: joblib with a progress bar, for every engine.

Ray uses the cluster at `RAY_ADDRESS`, or starts one on this machine. All its machines need this package installed and
a shared file system with the same folder names. Data at an address does not need a shared file system.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Sized
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar, cast

import psutil
from joblib import Parallel, delayed, parallel_config
from tqdm import tqdm

from fourdistill.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

_WATCH_S = 0.2
IN_FLIGHT = 2  # dispatched but unfinished tasks per worker; a limit, because `items` may be a generator of any length


class _ProgressParallel(Parallel):
    """joblib's Parallel with a tqdm bar: every backend calls `print_progress` after each task."""

    def __init__(self, bar: "tqdm[Any]", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._bar = bar

    def print_progress(self) -> None:
        """Set the bar to the number of finished tasks."""
        self._bar.update(self.n_completed_tasks - self._bar.n)


def fan_out(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    engine: str,
    jobs: int,
    description: str,
    total: int | None = None,
    gpus: float = 0,
) -> list[Result]:
    """`[function(item) for item in items]`, in order, on `jobs` workers (-1: all cores of the machine or cluster).

    `engine` is `loky` (processes on this machine) or `ray` (a Ray cluster, with `gpus` GPUs per worker). `total` is
    the number of items if `items` is a generator. An exception in a worker is raised here. Raises `InputError` if the
    engine is unknown or Ray is not installed.
    """
    if total is None:
        total = len(items) if isinstance(items, Sized) else None
    options: dict[str, Any] = {}
    if engine == "ray":
        _register_ray()
        # Request almost no CPU: workers of a call that has just ended may still hold theirs, and new ones would wait.
        # Not zero: Ray does not spread workers that request no resources over the machines.
        remote = {"scheduling_strategy": "SPREAD", "num_cpus": 0.01, "num_gpus": gpus}
        options = {"ray_remote_args": remote}
        function = _InFolder(function, os.getcwd())  # noqa: PTH109
    elif engine != "loky":
        raise InputError(f"engine: expected loky or ray, got {engine!r}")
    else:
        jobs = 1 if total == 1 else jobs  # a worker process costs more than it saves
        function = _WithParent(function, os.getpid())
    with tqdm(total=total, desc=description, unit="task") as bar, parallel_config(engine, n_jobs=jobs, **options):
        tasks: Iterable[Any] = (delayed(function)(item) for item in items)
        return cast(list[Result], _ProgressParallel(bar, pre_dispatch=f"{IN_FLIGHT}*n_jobs", batch_size=1)(tasks))


class _WithParent:
    """A function whose worker process, with its children, exits soon after the process `parent` is killed.

    Otherwise the worker would finish its task, and write to folders that the next run already uses.
    """

    def __init__(self, function: Callable[[Any], Any], parent: int) -> None:
        self.function, self.parent = function, parent

    def __call__(self, item: Any) -> Any:
        if os.getpid() != self.parent:
            _watch(self.parent)
        return self.function(item)


@cache
def _watch(parent: int) -> None:
    """Start a thread that watches the parent of this process."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True, name="watch-parent").start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(1)


class _InFolder:
    """A function that runs in a given folder: the workers of a cluster start in a different one."""

    def __init__(self, function: Callable[[Any], Any], folder: str) -> None:
        self.function, self.folder = function, folder

    def __call__(self, item: Any) -> Any:
        os.chdir(self.folder)
        return self.function(item)


def _register_ray() -> None:
    try:
        from ray.util.joblib import register_ray  # pyright: ignore[reportMissingImports]  # an optional extra
    except ImportError as error:
        raise InputError("engine: ray: expected the extra fourdistill[ray] to be installed") from error
    register_ray()
