"""Schedulers by name: any diffusers scheduler that can adopt the noise schedule of the base's own."""

from typing import Any

from fourdistill.errors import InputError


def make_scheduler(own: Any, name: str) -> Any:
    """The scheduler of this name, with the noise schedule of the base's `own` scheduler.

    A name is that of a diffusers class, with or without the suffix `Scheduler`, in upper or lower case:
    `DDIMScheduler`, `ddim`, `euler-discrete`. Raises `InputError` listing the names.
    """
    known = {plain(kind.__name__): kind for kind in own.compatibles}
    if plain(name) not in known:
        raise InputError(f"scheduler: expected one of {', '.join(sorted(known))}, got {name!r}")
    try:
        return known[plain(name)].from_config(own.config)
    except (ImportError, ValueError, NotImplementedError) as error:  # a missing library or an unsupported schedule
        raise InputError(f"scheduler: {name}: {' '.join(str(error).split())}") from error


def plain(name: str) -> str:
    """`EulerDiscreteScheduler`, `euler-discrete` => eulerdiscrete."""
    return "".join(letter for letter in name.lower() if letter.isalnum()).removesuffix("scheduler")


def set_timesteps(scheduler: Any, num_inference_steps: int, device: Any) -> None:
    """Set the diffusion steps; raises `InputError` for more than the base was trained with."""
    most = scheduler.config.num_train_timesteps
    if num_inference_steps > most:
        raise InputError(f"num_inference_steps: expected at most {most}, as the base has, got {num_inference_steps}")
    scheduler.set_timesteps(num_inference_steps, device=device)
