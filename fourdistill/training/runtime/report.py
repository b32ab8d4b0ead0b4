"""`train_report.json`: what a training did, over all of its interruptions."""

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

REPORT_NAME = "train_report.json"


@dataclass
class TrainReport:
    """Progress of one training; `state` goes into its checkpoints, so that it outlives a killed run."""

    processes: int
    micro_batches: int
    batch_size: int
    status: str = "running"
    """running, preempted, failed or finished."""
    steps: int = 0
    restarts: int = 0
    """How often a run went on from a checkpoint."""
    seconds: float = 0.0
    """Spent in steps that count: without validation, samples, checkpoints, and what was lost with a killed run."""
    _since: float = field(default_factory=time.perf_counter)

    def start_clock(self) -> None:
        """What follows is training."""
        self._since = time.perf_counter()

    def stop_clock(self) -> None:
        """What follows is not training."""
        self.seconds += time.perf_counter() - self._since
        self._since = time.perf_counter()

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"restarts": self.restarts, "seconds": self.seconds}

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        self.restarts, self.seconds = state["restarts"] + 1, state["seconds"]

    def write(self, folder: Path, facts: dict[str, Any]) -> None:
        """Write the report, with further `facts`, into the folder of the logs."""
        values = {name: value for name, value in asdict(self).items() if not name.startswith("_")} | facts
        samples = self.steps * self.batch_size
        values |= {"samples": samples, "samples_per_s": samples / self.seconds if self.seconds else 0.0}
        partial = folder / f".{REPORT_NAME}.partial"
        partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        partial.replace(folder / REPORT_NAME)
