"""Peak memory of a computation: of the GPU, or of this process where there is none."""

from collections.abc import Callable
from pathlib import Path

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # of Linux


def peak_gb(run: Callable[[], object], device: torch.device) -> float:
    """The most memory in use while `run` runs, in GB (10^9 bytes), weights and all else of the process included.

    On a GPU: allocated by torch. Else: resident; 0 where the system is not Linux.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device) / 1e9
    if not RESET.exists():
        return 0.0
    RESET.write_text("5")  # the peak starts again from what is resident now
    run()
    peak = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024 / 1e9
