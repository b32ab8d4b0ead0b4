"""Every benchmark can be started: its imports work, and it shows its usage."""

import subprocess
import sys

import pytest
import torch
from imports import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import bench
import memory

SCRIPTS = sorted(path.name for path in (ROOT / "benchmarks").glob("*.py") if "typer" in path.read_text())


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_benchmark_says_how_it_is_used(script):
    command = [sys.executable, str(ROOT / "benchmarks" / script), "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def test_results_are_tables_of_what_was_measured():
    names = ["unet", "unet_stored", "step"]
    facts = {
        "size": "sd15",
        "batch_size": 2,
        "precision": "bf16",
        "step_over_unet_clock": 1.2,
        "step_over_unet_cpu": 1.1,
    }
    facts |= {f"{name}_{kind}": 2.0 for name in names for kind in ("clock_s", "cpu_s", "peak_gb")}
    page = "\n".join(bench.step_tables([facts]))
    assert "### SD 1.5-sized, 256 px, batch 2, bf16" in page and "| b / a | 1.20 | 1.10 | ≤ 1.10 |" in page
    assert "from pixels" not in page  # was not measured
    part = {
        "generation": {
            "ours_s": 3.0,
            "stock_s": 4.0,
            "ratio_ours_over_stock": 0.75,
            "ours_peak_gb": 1,
            "stock_peak_gb": 1,
        },
        "words": {"one_pass_s": 0.1, "pass_each_s": 2.0, "times_faster": 20.0},
    }
    assert "| ours over diffusers | 0.75 | 0.75 | ≤ 1.0 |" in bench.generation_table([part, part])


def test_peak_memory_is_that_of_the_run():
    if not memory.RESET.exists():
        pytest.skip("not Linux")
    cpu = torch.device("cpu")
    before = memory.peak_gb(lambda: None, cpu)
    assert memory.peak_gb(lambda: torch.ones(100_000_000).sum(), cpu) > before + 0.3
    assert memory.peak_gb(lambda: None, cpu) < before + 0.2
