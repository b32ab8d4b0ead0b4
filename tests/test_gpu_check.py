"""`make gpu-check`: what it does here without a GPU, and its checks on the processor with tiny models."""

import math
import subprocess
import sys

import pytest
import torch
from imports import ROOT

from fourdistill.models.base.model import load_base

sys.path.insert(0, str(ROOT / "benchmarks"))
import gpu_check
import plain_rasterizer

TINY_XL = {
    "sample_size": 8, "cross_attention_dim": 32, "block_out_channels": (32, 32, 64), "attention_head_dim": (2, 2, 2),
    "transformer_layers_per_block": (1, 1, 2), "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 80,
}  # fmt: skip


@pytest.fixture(scope="module")
def setup(tiny_base):
    return gpu_check.Setup.of(load_base(str(tiny_base)), torch.device("cpu"), compiler="eager")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_check.py"), "--out", str(tmp_path / "gpu.md")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "gpu-check: no CUDA device here, nothing was checked\n")
    assert not (tmp_path / "gpu.md").exists()


@pytest.mark.parametrize("name", ["precision", "compile", "channels_last", "adamw", "training", "generation"])
def test_a_check_runs_on_the_processor_and_holds(setup, name):
    checks = list(getattr(gpu_check, f"check_{name}")(setup))
    assert checks
    for check in checks:
        assert check.holds and math.isfinite(check.value), check.row()


def test_splats_are_compared_in_pictures_and_gradients(setup):
    checks = list(gpu_check.check_splats(setup, plain_rasterizer.rasterize))
    assert len(checks) == 4 and all(check.value == 0 for check in checks)  # with itself

    def shifted(splats, viewmats, K, size):
        """Pixel centres at whole numbers."""
        moved = K - K.new_tensor([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
        return plain_rasterizer.rasterize(splats, viewmats, moved, size)

    colours, *_, gradients = gpu_check.check_splats(setup, shifted)
    assert not colours.holds and not gradients.holds


def test_two_processes_have_the_gradients_of_one(setup):
    (check,) = gpu_check.check_processes(setup, count=2)
    assert check.holds and math.isfinite(check.value), check.row()
    assert list(gpu_check.check_processes(setup, count=1)) == []


def test_sdxl_of_a_tiny_size(setup):
    memory, finite = gpu_check.check_sdxl(setup, **TINY_XL)
    assert memory.unit == "GB" and finite.holds


def test_what_fails_is_a_row_that_does_not_hold(setup, monkeypatch):
    def check_broken(setup):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(gpu_check, "CHECKS", (check_broken,))
    (check,) = gpu_check.run_checks(setup)
    assert not check.holds and check.row().endswith("| NO |")
    monkeypatch.setattr(gpu_check, "TIME_LIMIT_S", -1)
    (late,) = gpu_check.run_checks(setup)
    assert "begun within" in late.name and not late.holds


def test_bounds_are_kept_in_both_directions():
    assert gpu_check.Check("error", 0.1, 0.2).holds and not gpu_check.Check("error", 0.3, 0.2).holds
    assert gpu_check.Check("share", 1.0, 1.0, at_least=True).holds
    assert not gpu_check.Check("share", 0.5, 1.0, at_least=True).holds
    assert not gpu_check.Check("error", math.nan, 0.2).holds and gpu_check.Check("seconds", 7.0).holds
    page = gpu_check.report("a card", [gpu_check.Check("memory", 9.87, 10.0, "GB")], 61.0)
    assert "| memory | 9.87 GB | ≤ 10 GB | yes |" in page and "in 61 s" in page
