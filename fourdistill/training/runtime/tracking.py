"""Devices and logs of a training: accelerate with DVCLive."""

import gc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs, DistributedType

from fourdistill.errors import InputError
from fourdistill.models.base.precision import default_device, resolve_precision
from fourdistill.training.runtime.sharding import copying


def start_accelerator(mixed_precision: str) -> Accelerator:
    """An accelerator for one process or many (`accelerate launch`), on the CPU if there is no GPU."""
    device = default_device()
    precision = resolve_precision(mixed_precision, device)
    if precision == "fp16" and device.type == "cpu":
        raise InputError("mixed_precision: fp16: expected a GPU; bf16 and no run on the processor")
    handler = DistributedDataParallelKwargs(broadcast_buffers=False)  # they never change
    with copying():
        accelerator = Accelerator(
            log_with="dvclive",
            mixed_precision=precision,
            cpu=device.type == "cpu",
            kwargs_handlers=[handler],
            # The batch size does not depend on the number of processes: step the learning rate once per step.
            dataloader_config=DataLoaderConfiguration(split_batches=True),
        )
    kind = accelerator.distributed_type
    if kind in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise InputError(f"accelerate: distributed_type: expected MULTI_GPU or FSDP, got {kind.value}")
    return accelerator


def start_logs(accelerator: Accelerator, live_folder: Path, *, resume: bool) -> None:
    """Log to DVCLive in `live_folder`, from the main process; leave DVC's own files to DVC."""
    live = {"dir": str(live_folder), "save_dvc_exp": False, "dvcyaml": None, "resume": resume}
    accelerator.init_trackers("fourdistill", init_kwargs={"dvclive": live})


def end_accelerator(accelerator: Accelerator) -> None:
    """End the logs and the process group. The caller must have released the model from `accelerator.prepare`.

    DDP's reducer also holds the group and must be freed first: as the last holder it would wait for gloo's threads
    without releasing the GIL, which they need to free their last tensors (pytorch/pytorch#56297).
    """
    accelerator.free_memory()
    gc.collect()  # accelerate collects before it drops its own references
    accelerator.end_training()


class Means:
    """Means of metrics over the micro-batches since the last log and over all processes, which add equally many."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.values: dict[str, list[torch.Tensor]] = {}

    def add(self, figures: Mapping[str, torch.Tensor | float]) -> None:
        """Add metrics (); not every metric is needed each time."""
        for name, value in figures.items():
            self.values.setdefault(name, []).append(
                torch.as_tensor(value, dtype=torch.float32, device=self.accelerator.device)
            )

    def take(self) -> dict[str, float]:
        """Return the means and reset."""
        means = {name: mean for name, (mean, _) in self.state().items()}
        self.values = {}
        return means

    def state(self) -> dict[str, tuple[float, int]]:
        """The state for a checkpoint: the mean and count of each metric."""
        return {name: (self._mean(values), len(values)) for name, values in self.values.items()}

    def resume(self, state: Mapping[str, tuple[float, int]]) -> None:
        """Resume from the state of a checkpoint."""
        for name, (mean, count) in state.items():
            self.values[name] = [torch.tensor(mean, device=self.accelerator.device)] * count

    def _mean(self, values: list[torch.Tensor]) -> float:
        mean: Any = self.accelerator.reduce(torch.stack(values).mean(), reduction="mean")
        return mean.item()
