"""One way to spread work over processes or machines: joblib, with a progress bar, whatever the engine."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

from joblib import Parallel, delayed, parallel_config
from tqdm import tqdm

from fourdistill.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")


class _ProgressParallel(Parallel):
    """joblib's Parallel that moves a tqdm bar: `print_progress` is called after each task, in every backend."""

    def __init__(self, bar: "tqdm[Any]", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._bar = bar

    def print_progress(self) -> None:
        """Bring the bar to the number of finished tasks."""
        self._bar.update(self.n_completed_tasks - self._bar.n)


def fan_out(
    function: Callable[[Item], Result], items: Sequence[Item], *, engine: str, jobs: int, description: str
) -> list[Result]:
    """`[function(item) for item in items]`, in order, on `jobs` workers (-1: all cores).

    `engine` is `loky` (processes of this machine) or `ray` (a Ray cluster). An exception in a worker is raised here.
    Raises `InputError` for an unknown engine, or where Ray is not installed.
    """
    if engine == "ray":
        _register_ray()
    elif engine != "loky":
        raise InputError(f"engine: expected loky or ray, got {engine!r}")
    if len(items) == 1:
        jobs = 1  # a worker process costs more than it saves
    with tqdm(total=len(items), desc=description, unit="task") as bar, parallel_config(engine, n_jobs=jobs):
        tasks: Iterable[Any] = (delayed(function)(item) for item in items)
        return cast(list[Result], _ProgressParallel(bar)(tasks))


def _register_ray() -> None:
    try:
        from ray.util.joblib import register_ray  # pyright: ignore[reportMissingImports]  # an optional extra
    except ImportError as error:
        raise InputError("engine: ray: expected the extra fourdistill[ray] to be installed") from error
    register_ray()
