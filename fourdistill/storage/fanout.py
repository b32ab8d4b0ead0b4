"""One way to spread work over processes or machines: joblib, with a progress bar, whatever the engine.

A Ray cluster is the one at `RAY_ADDRESS`, or one that Ray starts on this machine. Its machines must see the same
folders under the same names (a shared file system; what is at an address needs none), and have this package installed.
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
IN_FLIGHT = 2  # tasks per worker that are handed out before they are done: `items` may be a generator of any length


class _ProgressParallel(Parallel):
    """joblib's Parallel that moves a tqdm bar: `print_progress` is called after each task, in every backend."""

    def __init__(self, bar: "tqdm[Any]", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._bar = bar

    def print_progress(self) -> None:
        """Bring the bar to the number of finished tasks."""
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

    `engine` is `loky` (processes of this machine) or `ray` (a Ray cluster, which gives every worker `gpus` GPUs).
    `total`: how many items a generator will give. An exception in a worker is raised here. Raises `InputError` for an
    unknown engine, or where Ray is not installed.
    """
    if total is None:
        total = len(items) if isinstance(items, Sized) else None
    options: dict[str, Any] = {}
    if engine == "ray":
        _register_ray()
        # Hardly a CPU to hold: those of a call that has just ended may still have theirs, and the next would wait.
        # Not none at all: workers that need nothing are not spread over the machines.
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
    """A function whose worker process ends, and all that it started, soon after the process `parent` was killed.

    Else it would go on for the length of its task, in folders that the next run has already made its own.
    """

    def __init__(self, function: Callable[[Any], Any], parent: int) -> None:
        self.function, self.parent = function, parent

    def __call__(self, item: Any) -> Any:
        if os.getpid() != self.parent:
            _watch(self.parent)
        return self.function(item)


@cache
def _watch(parent: int) -> None:
    """Look after the parent of this process from a thread of its own, from now on."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True, name="watch-parent").start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(1)


class _InFolder:
    """A function to be called in a folder: the workers of a cluster start in one of their own."""

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
