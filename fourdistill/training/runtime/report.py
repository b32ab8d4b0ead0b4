"""`train_report.json`: what a training did, over all of its interruptions."""

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fourdistill.shards.loader.batches import merge_reports

REPORT_NAME = "train_report.json"
LOSSES = ("shards_broken", "samples_undecodable", "samples_missing")


@dataclass
class TrainReport:
    """Counts of one training; `state` goes into its checkpoints, so that they outlive a killed run."""

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
    data: dict[str, Any] = field(default_factory=dict)
    """Shards and samples that were read, and that could not be, as the loaders count them."""
    validation: dict[str, Any] = field(default_factory=dict)
    """The same of the validation pairs, which every process reads, in this run."""
    _earlier: dict[str, Any] = field(default_factory=dict)
    _since: float = field(default_factory=time.perf_counter)

    def start_clock(self) -> None:
        """What follows is training."""
        self._since = time.perf_counter()

    def stop_clock(self) -> None:
        """What follows is no training."""
        self.seconds += time.perf_counter() - self._since
        self._since = time.perf_counter()

    def count_data(self, counts: dict[str, Any]) -> None:
        """Take over what the loaders of all processes have counted in this run, beside what earlier runs did."""
        self.data = merge_reports([self._earlier, counts])

    @property
    def lost(self) -> dict[str, int]:
        """Of `data`, what was skipped and how often; empty where all is well."""
        return {name: self.data[name] for name in LOSSES if self.data.get(name)}

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"restarts": self.restarts, "seconds": self.seconds, "data": self.data}

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        self.restarts, self.seconds = state["restarts"] + 1, state["seconds"]
        self.data = self._earlier = state["data"]

    def write(self, folder: Path) -> None:
        """Write the report into the folder of the logs."""
        values = {name: value for name, value in asdict(self).items() if not name.startswith("_")}
        samples = self.steps * self.batch_size
        values |= {"samples": samples, "samples_per_s": samples / self.seconds if self.seconds else 0.0}
        partial = folder / f".{REPORT_NAME}.partial"
        partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        partial.replace(folder / REPORT_NAME)
