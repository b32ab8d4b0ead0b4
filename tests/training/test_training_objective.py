"""The random draws for a part of a batch, and their use by the denoiser."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from stage_settings import train_settings
from tiny_adapters import start_tiny_adapter
from toy_shards import noise_target, write_toy_shards

from fourdistill.models.base.model import load_base
from fourdistill.shards.loader.batches import make_loader
from fourdistill.training.mappers.denoiser import Denoiser
from fourdistill.training.mappers.objective import Objective
from fourdistill.training.mappers.settings import Dropout
from fourdistill.training.runtime.seeds import step_generator

SIZE = 12
NOTHING = Dropout(0, 0, 0, 0, 0, 0)


@pytest.fixture(scope="module")
def denoiser(tiny_base):
    base = load_base(str(tiny_base))
    return Denoiser(base, start_tiny_adapter(base, lambda_=2.0))


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    shards = write_toy_shards(tmp_path_factory.mktemp("toy") / "shards", noise_target)
    return next(iter(make_loader(shards, "train", SIZE, seed=0, shuffle=False, epochs=1)))


@torch.no_grad()
def measure(denoiser, batch, rates, step=3) -> tuple[float, Any, list[str], torch.Tensor]:
    """The loss of a step, and the conditions, captions and lambdas passed to the denoiser."""
    given = []

    def model(*arguments):
        given.append(arguments[3:])
        return denoiser(*arguments)

    settings = train_settings(timestep_bias=0.0, dropout=rates)
    objective = Objective(denoiser, settings.loss, torch.device("cpu"))
    loss = objective(model, batch, step_generator(0, step))  # type: ignore[arg-type]
    return (loss.item(), *given[0])


def test_where_nothing_is_dropped_everything_is_there(denoiser, batch):
    _, conditions, captions, lambdas = measure(denoiser, batch, NOTHING)
    assert conditions.has_image.all() and (lambdas == 2).all() and captions == batch.caption
    assert conditions.displacement == batch.displacement


def test_what_is_dropped_is_not_there(denoiser, batch):
    _, conditions, captions, _ = measure(denoiser, batch, Dropout(1, 1, 1, 1, 0, 0))
    assert captions == [""] * SIZE
    assert not (conditions.has_image | conditions.moved).any()
    assert (conditions.image_embeds == conditions.image_embeds[0]).all()  # the null image
    assert not (conditions.image_embeds == batch.source_embeds).all()


def test_lower_lambdas_reach_the_loss_and_follow_from_the_step(denoiser, batch):
    lower = Dropout(0, 0, 0, 0, 0, bypass=1)
    whole, *_ = measure(denoiser, batch, NOTHING)
    loss, _, _, lambdas = measure(denoiser, batch, lower)
    assert lambdas.shape == (SIZE,) and lambdas.min() == 0 and lambdas.max() < 2 and len(lambdas.unique()) > 3
    assert loss != whole
    again, _, _, same = measure(denoiser, batch, lower)
    assert again == loss and torch.equal(same, lambdas)
    _, _, _, others = measure(denoiser, batch, lower, step=4)
    assert not torch.equal(others, lambdas)


def test_a_pair_counts_by_its_weight(denoiser, batch):
    full, *_ = measure(denoiser, batch, NOTHING)
    half, *_ = measure(denoiser, replace(batch, weight=torch.full((SIZE,), 0.5)), NOTHING)
    assert half == pytest.approx(full / 2)
