"""`benchmarks/prior_control.py`: its figures for known answers."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from imports import ROOT
from rings import ring

spec = importlib.util.spec_from_file_location("prior_control", ROOT / "benchmarks" / "prior_control.py")
assert spec is not None and spec.loader is not None
prior_control = importlib.util.module_from_spec(spec)
spec.loader.exec_module(prior_control)

RING = ring(6, 9)
PLACES = torch.from_numpy(np.stack([RING.spherical[:, 0], RING.seen.time], axis=1)).float()  # (N, 2)


def embeds_at(places: torch.Tensor) -> torch.Tensor:
    """Azimuths and times (N, 2) => embeddings (N, 1, 3)."""
    azimuth, time = places.unbind(1)
    return torch.stack([azimuth.cos(), azimuth.sin(), 3 * time], dim=1)[:, None]


class Mover:
    """A prior that reads azimuth and time off the codes and moves them, by `share` of what was commanded."""

    def __init__(self, share: float):
        self.share, self.codec = share, SimpleNamespace(encode=lambda embeds: embeds.flatten(1))

    def predict(self, codes, conditions):
        x, y, time = codes[0].unbind(1)
        azimuth = torch.atan2(y, x) + self.share * conditions.displacement.azimuth
        moved = torch.stack([azimuth, time / 3 + self.share * conditions.displacement.time], dim=1)
        return self.codec.encode(embeds_at(moved))


def figures(share: float, monkeypatch, count: int = 300) -> dict[str, float]:
    monkeypatch.setattr(prior_control, "read_frame_embeds", lambda features, keys: embeds_at(PLACES))
    rng = np.random.default_rng(0)
    sweep = prior_control.random_sweep("s", RING, count, True, rng)
    assert len(sweep.commands) == count and all(command.new_scene for command in sweep.commands)
    assert all(command.source != command.target for command in sweep.commands)
    return prior_control.measure(Mover(share), [sweep], {"s": RING}, "features", 1, rng)


def test_a_prior_that_does_what_is_commanded_hits_every_random_target(monkeypatch):
    found = figures(1.0, monkeypatch)
    assert found["joint.top1"] == 1 and found["codes.error_over_copy"] == pytest.approx(0, abs=1e-6)
    assert found["time.mae_frames"] == pytest.approx(0, abs=1e-3) and "time.spearman" not in found


def test_a_prior_that_copies_hits_none(monkeypatch):
    found = figures(0.0, monkeypatch)
    assert found["joint.top1"] == 0 and found["codes.error_over_copy"] == pytest.approx(1)
