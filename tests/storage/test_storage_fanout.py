"""Workers of `fan_out` do not outlive a parent that was killed."""

import subprocess
import sys
import time

import psutil
import pytest

from fourdistill.errors import InputError
from fourdistill.storage.fanout import fan_out

SLEEPERS = """
import subprocess, sys
from pathlib import Path
from fourdistill.storage.fanout import fan_out

def sleep(number):
    child = subprocess.Popen(["sleep", "120"])
    Path(sys.argv[1], f"{number}").write_text(str(child.pid))
    child.wait()

fan_out(sleep, range(2), engine="loky", jobs=2, description="sleep")
"""


def test_workers_and_what_they_started_end_with_a_killed_parent(tmp_path):
    script = subprocess.Popen([sys.executable, "-c", SLEEPERS, str(tmp_path)], stderr=subprocess.DEVNULL)
    while len([path for path in tmp_path.iterdir() if path.read_text()]) < 2:
        assert script.poll() is None
        time.sleep(0.05)
    sleepers = [psutil.Process(int(path.read_text())) for path in tmp_path.iterdir()]
    workers = [sleeper.parent() for sleeper in sleepers]
    assert None not in workers and script.pid not in {worker.pid for worker in workers if worker}
    script.kill()
    script.wait()
    _, alive = psutil.wait_procs([*sleepers, *filter(None, workers)], timeout=10)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_order(jobs):
    assert fan_out(abs, [-3, 2, -1], engine="loky", jobs=jobs, description="abs") == [3, 2, 1]


def test_an_unknown_engine_is_an_error():
    with pytest.raises(InputError, match="engine: expected loky or ray, got 'spark'"):
        fan_out(abs, [1], engine="spark", jobs=1, description="abs")
