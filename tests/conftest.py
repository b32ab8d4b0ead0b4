"""Fixtures shared by several packages of tests."""

import os
import sys
from pathlib import Path

# Set before torch is imported: workers that each use all cores slow each other down.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no downloads from a hub

import pytest
from hypothesis import settings
from tiny_models import build_tiny_base, build_tiny_xl

# The same examples in every run, and no deadline that depends on the machine's speed.
settings.register_profile("fourdistill", deadline=None, derandomize=True)
settings.load_profile("fourdistill")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Reset accelerate's process-wide state before every test."""
    if "accelerate.state" in sys.modules:
        sys.modules["accelerate.state"].AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory) -> Path:
    """A tiny seeded base model in Stable Diffusion layout (read-only: copy it before changing anything)."""
    return build_tiny_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="session")
def tiny_xl(tmp_path_factory) -> Path:
    """A tiny seeded base of SDXL's structure (read-only)."""
    return build_tiny_xl(tmp_path_factory.mktemp("base") / "xl")
