"""Where a training runs and logs: accelerate with DVCLive."""

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
    """An accelerator for one process or many (`accelerate launch`), on the processor where there is no GPU."""
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
            # The batch is the same whatever the number of processes, so the learning rate moves once a step.
            dataloader_config=DataLoaderConfiguration(split_batches=True),
        )
    kind = accelerator.distributed_type
    if kind in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise InputError(f"accelerate: distributed_type: expected MULTI_GPU or FSDP, got {kind.value}")
    return accelerator


def start_logs(accelerator: Accelerator, live_folder: Path, *, resume: bool) -> None:
    """Log to DVCLive in `live_folder`, from the main process; DVC's own files are left to DVC."""
    live = {"dir": str(live_folder), "save_dvc_exp": False, "dvcyaml": None, "resume": resume}
    accelerator.init_trackers("fourdistill", init_kwargs={"dvclive": live})


def end_accelerator(accelerator: Accelerator) -> None:
    """End the logs and the process group. The caller has let go of the model that `accelerator.prepare` gave it.

    DDP's reducer holds the group, too, and must go first: as the last holder it would wait for gloo's threads without
    releasing the interpreter lock, which those need for their last tensors (pytorch/pytorch#56297).
    """
    accelerator.free_memory()
    gc.collect()  # accelerate collects before it lets go itself
    accelerator.end_training()


class Means:
    """Means of figures over the micro-batches since the last log, and over all processes, which add equally many."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.values: dict[str, list[torch.Tensor]] = {}

    def add(self, figures: Mapping[str, torch.Tensor | float]) -> None:
        """Count figures (), maybe not all of them each time."""
        for name, value in figures.items():
            self.values.setdefault(name, []).append(
                torch.as_tensor(value, dtype=torch.float32, device=self.accelerator.device)
            )

    def take(self) -> dict[str, float]:
        """The means; counting starts anew."""
        means = {name: mean for name, (mean, _) in self.state().items()}
        self.values = {}
        return means

    def state(self) -> dict[str, tuple[float, int]]:
        """What a checkpoint keeps: of each figure its mean and how often it was counted."""
        return {name: (self._mean(values), len(values)) for name, values in self.values.items()}

    def resume(self, state: Mapping[str, tuple[float, int]]) -> None:
        """Go on from what a checkpoint kept."""
        for name, (mean, count) in state.items():
            self.values[name] = [torch.tensor(mean, device=self.accelerator.device)] * count

    def _mean(self, values: list[torch.Tensor]) -> float:
        mean: Any = self.accelerator.reduce(torch.stack(values).mean(), reduction="mean")
        return mean.item()
