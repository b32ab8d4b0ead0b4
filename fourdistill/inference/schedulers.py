"""Schedulers by name: any diffusers scheduler that can adopt the noise schedule of the base's own."""

import inspect
from typing import Any

from fourdistill.errors import InputError

ZERO_SNR = "rescale_betas_zero_snr"  # a noise schedule that ends in noise alone, which not every scheduler can follow


def make_scheduler(own: Any, name: str) -> Any:
    """The scheduler of this name, with the noise schedule of the base's `own` scheduler.

    A name is that of a diffusers class, with or without the suffix `Scheduler`, in upper or lower case:
    `DDIMScheduler`, `ddim`, `euler-discrete`. Raises `InputError` listing the names, or if the scheduler cannot follow
    the base's noise schedule.
    """
    known = {plain(kind.__name__): kind for kind in own.compatibles}
    if plain(name) not in known:
        raise InputError(f"scheduler: expected one of {', '.join(sorted(known))}, got {name!r}")
    kind = known[plain(name)]
    if own.config.get(ZERO_SNR) and not follows_zero_snr(kind):
        able = ", ".join(sorted(other for other in known if follows_zero_snr(known[other])))
        raise InputError(f"scheduler: expected one of {able}, which have the base's {ZERO_SNR}, got {name!r}")
    try:
        return kind.from_config(own.config)
    except (ImportError, ValueError, NotImplementedError) as error:  # a missing library or an unsupported schedule
        raise InputError(f"scheduler: {name}: {' '.join(str(error).split())}") from error


def follows_zero_snr(kind: Any) -> bool:
    """Whether a scheduler's class has such noise schedules."""
    return ZERO_SNR in inspect.signature(kind.__init__).parameters


def plain(name: str) -> str:
    """`EulerDiscreteScheduler`, `euler-discrete` => eulerdiscrete."""
    return "".join(letter for letter in name.lower() if letter.isalnum()).removesuffix("scheduler")


def set_timesteps(scheduler: Any, num_inference_steps: int, device: Any) -> None:
    """Set the diffusion steps; raises `InputError` for more than the base was trained with."""
    most = scheduler.config.num_train_timesteps
    if num_inference_steps > most:
        raise InputError(f"num_inference_steps: expected at most {most}, as the base has, got {num_inference_steps}")
    scheduler.set_timesteps(num_inference_steps, device=device)
