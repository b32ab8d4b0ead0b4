import pytest
import torch
from fourdistill.inference.control_table import ControlTable, DisplacementWords
from hypothesis import given
from hypothesis import strategies as st

from fourdistill.errors import InputError
from fourdistill.inference.guidance import BranchedConditioning, Guidance, without
from fourdistill.models.attention import Conditioning
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
    delta_time=torch.tensor([0.1, 0.2]),
    has_time=torch.tensor([True, True]),
    view=torch.ones(2, 4),
    has_view=torch.tensor([True, False]),
)


@pytest.mark.parametrize(
    ("branch", "image", "time", "view"),
    [
        ("full", 1.0, True, True),
        ("text", 1.0, True, True),
        ("image", 0.0, True, True),
        ("time", 1.0, False, True),
        ("view", 1.0, True, False),
        ("all", 0.0, False, False),
    ],
)
def test_a_branch_lacks_its_condition_and_no_other(branch, image, time, view):
    left = without(CONDITIONS, branch, torch.zeros(1, 3, 5))
    assert (left.image_embeds == image).all()
    assert left.has_time.tolist() == [time, time]
    assert left.has_view.tolist() == [view, False]


def test_branches_mask_the_tokens_of_what_they_lack():
    steps = 3
    time, view = (
        DisplacementWords(draw(2 * i, steps, 2, 7, 6), draw(2 * i + 1, steps, 2, 7, 6), torch.tensor(rows))
        for i, rows in enumerate([[1, 0], [0, -1]])
    )
    control = ControlTable({"time": time, "view": view})
    branched = BranchedConditioning(Conditioning(draw(5, 6, 4, 6)), control, ["full", "time", "all"])
    for step in range(steps):
        conditioning = branched.at(step)
        assert conditioning.control_mask is not None and conditioning.control is not None
        assert conditioning.control_keys is not None and time.keys is not None and view.keys is not None
        assert conditioning.control_mask.tolist() == [
            [True, True], [True, False], [False, True], [False, False], [False, False], [False, False],
        ]  # fmt: skip
        for first in (0, 2, 4):
            for found, times, views in (
                (conditioning.control, time.values, view.values),
                (conditioning.control_keys, time.keys, view.keys),
            ):
                assert torch.equal(found[first, :, 0], times[step, 1])
                assert torch.equal(found[first + 1, :, 0], times[step, 0])
                assert torch.equal(found[first, :, 1], views[step, 0])
