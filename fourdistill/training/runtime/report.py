"""`train_report.json`: the report of a training across all interruptions."""

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

REPORT_NAME = "train_report.json"


@dataclass
class TrainReport:
    """Progress of one training; `state` is saved in its checkpoints, so it survives a killed run."""

    processes: int
    micro_batches: int
    batch_size: int
    status: str = "running"
    """running, preempted, failed or finished."""
    steps: int = 0
    restarts: int = 0
    """Number of resumptions from a checkpoint."""
    seconds: float = 0.0
    """Time in steps that count: without validation, samples, checkpoints, and steps lost with a killed run."""
    _since: float = field(default_factory=time.perf_counter)

    def start_clock(self) -> None:
        """Start counting training time."""
        self._since = time.perf_counter()

    def stop_clock(self) -> None:
        """Stop counting training time."""
        self.seconds += time.perf_counter() - self._since
        self._since = time.perf_counter()

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        return {"restarts": self.restarts, "seconds": self.seconds}

    def resume(self, state: dict[str, Any]) -> None:
        """Resume from the state of a checkpoint."""
        self.restarts, self.seconds = state["restarts"] + 1, state["seconds"]

    def write(self, folder: Path, facts: dict[str, Any]) -> None:
        """Write the report, with further `facts`, into the logs folder."""
        values = {name: value for name, value in asdict(self).items() if not name.startswith("_")} | facts
        samples = self.steps * self.batch_size
        values |= {"samples": samples, "samples_per_s": samples / self.seconds if self.seconds else 0.0}
        partial = folder / f".{REPORT_NAME}.partial"
        partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        partial.replace(folder / REPORT_NAME)
