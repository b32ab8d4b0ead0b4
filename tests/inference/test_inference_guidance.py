from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_displacements import some_displacements

from fourdistill.errors import InputError
from fourdistill.inference.guidance import Guidance, without
from fourdistill.models.conditions import Conditions

weights = st.floats(0, 10)


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(weights)
def test_all_alone_is_classifier_free_guidance(weight):
    full, nothing = draw(0, 2, 4, 8, 8), draw(1, 2, 4, 8, 8)
    guided = Guidance(all=weight).combine({"full": full, "all": nothing})
    assert torch.allclose(guided, nothing + weight * (full - nothing), atol=1e-4)


@given(weights, weights)
def test_each_weight_counts_its_own_condition(time, view):
    predictions = {"full": draw(0, 1, 4, 4, 4), "time": draw(1, 1, 4, 4, 4), "view": draw(2, 1, 4, 4, 4)}
    guided = Guidance(time=time, view=view).combine(predictions)
    full = predictions["full"]
    expected = full + (time - 1) * (full - predictions["time"]) + (view - 1) * (full - predictions["view"])
    assert torch.allclose(guided, expected, atol=1e-4)


def test_a_weight_of_one_costs_nothing():
    assert Guidance().branches() == ["full"]
    assert Guidance(text=3, view=0.5).branches() == ["full", "text", "view"]


def test_rescaling_gives_the_full_prediction_s_deviation_back():
    predictions = {"full": draw(0, 2, 4, 8, 8), "all": draw(1, 2, 4, 8, 8)}
    guidance = Guidance(all=8)
    plain, half, whole = (guidance.combine(predictions, rescale) for rescale in (0.0, 0.5, 1.0))
    deviation = [x.flatten(1).std(1) for x in (predictions["full"], plain, half, whole)]
    assert torch.allclose(deviation[3], deviation[0], rtol=1e-4)
    assert (deviation[2] < deviation[1]).all() and (deviation[3] < deviation[2]).all()


@pytest.mark.parametrize("weight", [-1.0, float("nan")])
def test_a_weight_below_zero_is_refused(weight):
    with pytest.raises(InputError, match="time guidance: expected at least 0"):
        Guidance(time=weight)


CONDITIONS = Conditions(
    image_embeds=torch.ones(2, 3, 5),
    has_image=torch.tensor([True, True]),
    displacement=some_displacements([True, True], [True, False]),
)
SEVERAL = replace(CONDITIONS, others=(CONDITIONS,))


@pytest.mark.parametrize("given", [CONDITIONS, SEVERAL], ids=["one", "several"])
@pytest.mark.parametrize(
    ("branch", "image", "time", "view"),
    [
        ("full", True, True, True),
        ("text", True, True, True),
        ("image", False, True, True),
        ("time", True, False, True),
        ("view", True, True, False),
        ("all", False, False, False),
    ],
)
def test_a_branch_lacks_its_condition_and_no_other(given, branch, image, time, view):
    left = without(given, branch, torch.zeros(1, 3, 5))
    assert len(left.per_image) == len(given.per_image)
    for each in left.per_image:
        assert (each.image_embeds == image).all()
        assert each.has_image.tolist() == [image, image]
        both = torch.ones(2, dtype=torch.bool)
        assert each.displacement == CONDITIONS.displacement.masked(both & time, both & view)


def test_an_image_that_is_not_there_does_not_come_back():
    absent = replace(CONDITIONS, has_image=torch.tensor([False, True]))
    for branch, left in (("full", [False, True]), ("time", [False, True]), ("all", [False, False])):
        assert without(absent, branch, torch.zeros(1, 3, 5)).has_image.tolist() == left


def test_only_the_samples_named_lose_their_images():
    left = SEVERAL.without_image(torch.tensor([True, False]), torch.zeros(1, 3, 5))
    for each in left.per_image:
        assert each.has_image.tolist() == [False, True]
        assert not each.image_embeds[0].any() and each.image_embeds[1].all()
