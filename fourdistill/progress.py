"""Progress of a pipeline run: the current stage, the number of stages, and an upper limit for the remaining time.

Expected times are those of each stage's last run in this checkout. Without one they come from
`pipeline/durations.json`, scaled by the speed of this machine so far. DVC skips stages that are up to date, so the rest
may take less time.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ruamel.yaml import YAML

PIPELINE = Path("dvc.yaml")
SHIPPED = Path("pipeline/durations.json")
"""Stage => seconds that it took in a run of the sample on two cores."""
LAST = Path(".dvc/tmp/durations.json")
"""The same for this checkout, written after each stage."""
TELLING_S = 10.0
"""Stages that take less say nothing about the machine's speed: starting Python is most of it."""
Durations = Mapping[str, float]


@contextmanager
def stage_progress() -> Iterator[None]:
    """Print the progress before a stage of `dvc.yaml`, and save its duration; does nothing outside DVC."""
    name = os.environ.get("DVC_STAGE", "")
    stages = list(YAML(typ="safe").load(PIPELINE.read_text(encoding="utf-8"))["stages"]) if PIPELINE.is_file() else []
    if name not in stages:  # run by hand, or a stage of another dvc.yaml
        yield
        return
    shipped, last = _read(SHIPPED), _read(LAST)
    print(describe(name, stages, shipped, last), file=sys.stderr, flush=True)
    started = time.monotonic()
    yield
    LAST.parent.mkdir(parents=True, exist_ok=True)
    partial = LAST.with_suffix(f".{os.getpid()}.tmp")
    partial.write_text(json.dumps({**last, name: round(time.monotonic() - started, 1)}), encoding="utf-8")
    partial.replace(LAST)


def describe(name: str, stages: Sequence[str], shipped: Durations, last: Durations) -> str:
    """`stage 3 of 8, build_pairs (10 s); all after it: at most 9 min`; unknown times are left out."""
    expected = expect(shipped, last)
    number = stages.index(name)
    this = f" ({_rounded(expected[name])})" if name in expected else ""
    rest = [expected.get(stage) for stage in stages[number + 1 :]]
    known = [seconds for seconds in rest if seconds is not None]
    after = f"; all after it: at most {_rounded(sum(known))}" if rest and len(known) == len(rest) else ""
    return f"stage {number + 1} of {len(stages)}, {name}{this}{after}"


def expect(shipped: Durations, last: Durations) -> dict[str, float]:
    """Seconds of each stage: its last duration, else the shipped one scaled by this machine's speed so far."""
    both = {stage for stage in shipped.keys() & last.keys() if shipped[stage] >= TELLING_S}
    pace = sum(last[stage] for stage in both) / max(sum(shipped[stage] for stage in both), 1e-9) if both else 1.0
    return {stage: seconds * pace for stage, seconds in shipped.items()} | dict(last)


def _rounded(seconds: float) -> str:
    return f"{max(seconds, 1):.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _read(path: Path) -> dict[str, float]:
    """The durations in a file; none if it is missing or truncated, because they are only estimates."""
    try:
        return {str(name): float(seconds) for name, seconds in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError):
        return {}
