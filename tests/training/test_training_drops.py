"""Nested dropout: its draws, and that they reach the mappers in training."""

import dataclasses

import pytest
import torch
from accelerate import Accelerator
from toy_shards import noise_target, write_toy_shards

from fourdistill.data.loader import make_loader
from fourdistill.models.adapter import Adapter
from fourdistill.models.adapter_config import AdapterSettings
from fourdistill.models.base import load_base
from fourdistill.models.mapper import Mapper
from fourdistill.training.drops import draw_keep
from fourdistill.training.objective import Objective
from fourdistill.training.parts import Parts
from fourdistill.training.settings import DropoutRates, TrainingSettings
from fourdistill.training.step import Denoiser

WIDTH, MANY = 16, 20_000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_without_nested_dropout_nothing_is_drawn():
    generator = seeded()
    before = generator.get_state()
    assert draw_keep(MANY, WIDTH, 0.0, generator) is None
    assert torch.equal(generator.get_state(), before)


def test_numbers_of_kept_units_are_even_over_all_of_them():
    keep = draw_keep(MANY, WIDTH, 1.0, seeded())
    assert keep is not None and keep.shape == (MANY,) and not keep.is_floating_point()
    counts = torch.bincount(keep, minlength=WIDTH + 1)
    assert counts[0] == 0 and len(counts) == WIDTH + 1
    assert (counts[1:] / MANY - 1 / WIDTH).abs().max() < 0.01


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_the_rate_is_how_often_some_are_dropped(rate):
    keep = draw_keep(MANY, WIDTH, rate, seeded())
    assert keep is not None and keep.min() >= 1
    whole = (keep == WIDTH).float().mean().item()
    assert whole == pytest.approx(1 - rate + rate / WIDTH, abs=0.02)  # a number drawn may be all of them


def test_draws_follow_from_the_seed():
    first, second, other = (draw_keep(64, WIDTH, 0.5, seeded(seed)) for seed in (1, 1, 2))
    assert first is not None and second is not None and other is not None
    assert torch.equal(first, second) and not torch.equal(first, other)


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    shards = write_toy_shards(tmp_path_factory.mktemp("toy") / "shards", noise_target)
    return next(iter(make_loader(shards, "train", 12, seed=0, shuffle=False, epochs=1)))


def test_what_is_drawn_reaches_the_mappers_and_the_loss(tiny_base, batch, monkeypatch):
    base = load_base(str(tiny_base))
    adapter = Adapter.from_base(base, AdapterSettings(hidden_width=WIDTH, lambda_=1.0), seeded())
    accelerator, denoiser = Accelerator(cpu=True), Denoiser(base, adapter)
    reached: list[torch.Tensor | None] = []
    original = Mapper.forward

    def forward(self, displacement, timesteps, keep=None):
        reached.append(keep)
        return original(self, displacement, timesteps, keep)

    monkeypatch.setattr(Mapper, "forward", forward)
    nothing_dropped = DropoutRates(0, 0, 0, 0, 0)

    @torch.no_grad()
    def loss(rate: float) -> tuple[float, list[torch.Tensor | None]]:
        reached.clear()
        settings = dataclasses.replace(TrainingSettings(batch_size=12, dropout=nothing_dropped), nested_dropout=rate)
        objective = Objective(accelerator, denoiser, denoiser, settings, Parts.divide(12, 1, 1, 0))
        return objective(batch, 3, 0).item(), reached.copy()

    whole, untouched = loss(0.0)
    nested, kept = loss(1.0)
    assert untouched == [None, None]  # of the time mapper, and of the view mapper
    num_time = sum(kind != "view" for kind in ("time", "view", "joint")) * 4
    time, view = kept
    assert time is not None and view is not None
    assert len(time) == len(view) == num_time == 8
    for keep in (time, view):
        assert keep.min() >= 1 and keep.max() <= WIDTH and len(keep.unique()) > 2
    assert nested != whole and loss(1.0)[0] == nested
