"""Fixtures that several areas share."""

from pathlib import Path

import pytest
from tiny_models import build_tiny_base


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory) -> Path:
    """A tiny seeded base model in Stable Diffusion layout (read-only: copy it before changing anything)."""
    return build_tiny_base(tmp_path_factory.mktemp("base") / "tiny")
