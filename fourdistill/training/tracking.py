"""Where a training runs and logs: accelerate with DVCLive."""

from pathlib import Path

from accelerate import Accelerator

from fourdistill.errors import InputError
from fourdistill.models.precision import default_device, resolve_precision


def start_accelerator(live_folder: Path, mixed_precision: str, *, resume: bool) -> Accelerator:
    """An accelerator that logs to DVCLive in `live_folder`; DVC's own files are left to DVC."""
    precision = resolve_precision(mixed_precision, default_device())
    accelerator = Accelerator(log_with="dvclive", mixed_precision=precision)
    if accelerator.num_processes > 1:
        raise InputError("train: expected one process: several would train on the same pairs")
    live = {"dir": str(live_folder), "save_dvc_exp": False, "dvcyaml": None, "resume": resume}
    accelerator.init_trackers("fourdistill", init_kwargs={"dvclive": live})
    return accelerator
