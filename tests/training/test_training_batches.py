import pytest
import torch
from tiny_displacements import some_displacements

from fourdistill.models.conditions import Conditions
from fourdistill.training.mappers.drops import draw_drops, draw_lambdas, drop_captions, drop_displacements, drop_images
from fourdistill.training.mappers.settings import Dropout
from fourdistill.training.shuffle import shuffle_condition

NULL_IMAGE = torch.full((1, 3, 2), 7.0)


def make_conditions(batch, has_time=None, has_view=None):
    generator = torch.Generator().manual_seed(0)
    return Conditions(
        image_embeds=torch.randn(batch, 3, 2, generator=generator),
        has_image=torch.ones(batch, dtype=torch.bool),
        displacement=some_displacements(has_time or [True] * batch, has_view or [True] * batch, generator),
    )


def dropped(rates, batch=4000):
    drops = draw_drops(batch, rates, torch.Generator().manual_seed(1))
    kept = drop_images(drop_displacements(make_conditions(batch), drops), NULL_IMAGE, drops)
    captions = drop_captions(["a"] * batch, drops)
    assert torch.equal((kept.image_embeds == NULL_IMAGE).all(dim=(1, 2)), ~kept.has_image)
    return torch.stack(
        [
            torch.tensor([caption == "" for caption in captions]),
            ~kept.has_image,
            ~kept.displacement.has_time,
            ~kept.displacement.has_view,
        ]
    ).float()  # (4, B): text, image, time, view


def test_conditions_are_dropped_independently():
    rates = [0.1, 0.2, 0.3, 0.4]
    drops = dropped(Dropout(*rates, all=0.0, bypass=0.0))
    assert drops.mean(dim=1).tolist() == pytest.approx(rates, abs=0.03)
    correlation = torch.corrcoef(drops) - torch.eye(4)
    assert correlation.abs().max() < 0.06


def test_all_drops_everything_together():
    drops = dropped(Dropout(0, 0, 0, 0, all=0.25, bypass=0))
    assert drops.mean(dim=1).tolist() == pytest.approx([0.25] * 4, abs=0.03)
    assert (drops == drops[0]).all()
    assert dropped(Dropout(0, 0, 0, 0, 0, 0)).sum() == 0


def test_dropping_never_adds_a_condition():
    conditions = make_conditions(3, [True, False, False], [False, True, False])
    none = draw_drops(3, Dropout(0, 0, 0, 0, 0, 0), torch.Generator())
    kept = drop_images(drop_displacements(conditions, none), NULL_IMAGE, none)
    moved = kept.displacement
    assert moved.has_time.tolist() == [True, False, False] and moved.has_view.tolist() == [False, True, False]
    assert drop_captions(["a", "", "b"], none) == ["a", "", "b"]
    assert torch.equal(kept.image_embeds, conditions.image_embeds) and kept.has_image.all()
    conditions = conditions.without_image(torch.tensor([True, False, False]), NULL_IMAGE)
    assert drop_images(conditions, NULL_IMAGE, none).has_image.tolist() == [False, True, True]


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_lambdas_are_the_adapters_own_or_none_or_between(rate):
    lambdas = draw_lambdas(20_000, 3.0, rate, torch.Generator().manual_seed(0))
    own, none = lambdas == 3, lambdas == 0
    between = lambdas[~own & ~none]
    assert own.float().mean().item() == pytest.approx(1 - rate, abs=0.02)
    assert none.float().mean().item() == pytest.approx(rate / 2, abs=0.02)
    if rate:
        assert between.min() > 0 and between.max() < 3
        assert torch.histc(between, 4, 0, 3).div(len(between)).tolist() == pytest.approx([0.25] * 4, abs=0.03)


@pytest.mark.parametrize(
    ("name", "fields"),
    [("image", {"image_embeds"}), ("time", {"time"}), ("view", {"azimuth", "elevation", "radius", "relative_pose"})],
)
def test_shuffling_moves_one_condition_and_nobody_keeps_its_own(name, fields):
    conditions = make_conditions(6, [True, False, True, True, False, True], [True] * 5 + [False])
    shuffled, has = shuffle_condition(conditions, name, torch.Generator().manual_seed(0))
    given, found = (
        {"image_embeds": each.image_embeds, "has_image": each.has_image} | vars(each.displacement)
        for each in (conditions, shuffled)
    )
    for other, before in given.items():
        after = found[other]
        if other not in fields:
            assert torch.equal(before, after)
            continue
        same = (before == after).flatten(1).all(dim=1) if before.ndim > 1 else before == after
        assert torch.equal(same, ~has)
        assert torch.equal(before.flatten().sort().values, after.flatten().sort().values)


def test_a_condition_of_one_sample_cannot_be_shuffled():
    _, has = shuffle_condition(make_conditions(3, [False, True, False]), "time", torch.Generator())
    assert not has.any()
