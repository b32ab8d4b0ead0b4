import math
from typing import Any

import pytest
import torch

from fourdistill.models.fourier import FourierFeatures
from fourdistill.models.mapper import TimeMapper, ViewMapper, encode_view
from fourdistill.models.text import combine

SHARED = {
    "sigma_timesteps": 1.0,
    "sigma_layer": 1.5,
    "num_layers": 7,
    "num_train_timesteps": 1000,
    "num_frequencies": 16,
    "hidden_width": 32,
    "width": 24,
    "token_std": 0.02,
}


def test_fourier_features_are_sines_and_cosines_of_saved_frequencies():
    features = FourierFeatures([1.0, 3.0], 5, torch.Generator().manual_seed(3))
    x = torch.tensor([[0.2, -0.7]])
    angles = [0.2 * w[0] - 0.7 * w[1] for w in features.frequencies.tolist()]
    expected = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    assert features(x).tolist()[0] == pytest.approx(expected, abs=1e-6)
    assert "frequencies" in features.state_dict()


def test_fourier_sigma_is_per_input():
    frequencies = FourierFeatures([0.5, 8.0], 4000, torch.Generator().manual_seed(0)).frequencies
    assert frequencies.std(dim=0).tolist() == pytest.approx([0.5, 8.0], rel=0.05)


def test_same_generator_seed_gives_the_same_frequencies():
    draws = [FourierFeatures([1.0], 8, torch.Generator().manual_seed(seed)).frequencies for seed in (5, 5, 6)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_mapper_answers_for_every_layer_and_depends_on_all_inputs():
    mapper = TimeMapper(6.0, **SHARED)
    delta_time, timesteps = torch.tensor([[0.1], [0.1], [-0.4]]), torch.tensor([100, 900, 100])
    v_base, v_bypass = mapper(delta_time, timesteps)
    assert v_base.shape == v_bypass.shape == (3, 7, 24)
    assert not torch.allclose(v_base[0], v_base[1])  # timestep
    assert not torch.allclose(v_base[0], v_base[2])  # displacement
    assert not torch.allclose(v_base[0, 0], v_base[0, 6])  # layer


def test_mapper_scales_timesteps_and_layers_to_minus_one_and_one():
    mapper = TimeMapper(6.0, **SHARED)
    seen = []
    mapper.features.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    mapper(torch.tensor([[0.25]]), torch.tensor([750]))
    assert seen[0][0, 0].tolist() == pytest.approx([0.25, 0.5, -1.0])
    assert seen[0][0, 6].tolist() == pytest.approx([0.25, 0.5, 1.0])


def test_view_mapper_takes_both_encodings():
    for encoding, inputs in (("spherical", 4), ("matrix", 12)):
        view = encode_view(torch.rand(2, 3), torch.rand(2, 12), encoding)
        assert view.shape == (2, inputs)
        assert ViewMapper(2.0, encoding, **SHARED)(view, torch.tensor([1, 2]))[0].shape == (2, 7, 24)


def test_spherical_encoding_is_wrap_safe():
    near = torch.tensor([[math.pi - 1e-3, 0.1, 0.0], [-math.pi + 1e-3, 0.1, 0.0]])
    first, second = encode_view(near, torch.zeros(2, 12), "spherical")
    assert torch.allclose(first, second, atol=3e-3)


def test_equation_1_by_hand():
    clip_base, v_bypass = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, -2.0]])
    assert torch.allclose(combine(clip_base, v_bypass, 0.2, "unit"), torch.tensor([[3.0, 3.8]]))
    assert torch.allclose(combine(clip_base, v_bypass, 0.2, "base"), torch.tensor([[3.0, 3.0]]))  # 4 - 0.2 * 5


def test_nested_dropout_keeps_the_first_hidden_units_alone():
    mapper = TimeMapper(6.0, **SHARED)
    delta_time, timesteps = torch.tensor([[0.1], [0.1], [0.1]]), torch.tensor([100, 100, 100])
    everything, _ = mapper(delta_time, timesteps)
    some, _ = mapper(delta_time, timesteps, torch.tensor([32, 5, 0]))
    assert torch.allclose(some[0], everything[0])
    assert not torch.allclose(some[1], everything[1])
    last: Any = mapper.mlp[-1]
    assert torch.allclose(some[2], last.bias[:24] * 0.02)  # nothing is left but the bias
    with torch.no_grad():
        last.weight[:, 5:] = 7.0
    assert torch.allclose(mapper(delta_time, timesteps, torch.tensor([32, 5, 0]))[0][1], some[1])


def test_a_rescaled_base_has_the_norm_of_a_token():
    mapper = TimeMapper(6.0, **SHARED, rescale_base=True)
    v_base, _ = mapper(torch.tensor([[0.1], [-0.9]]), torch.tensor([100, 900]))
    assert torch.allclose(v_base.norm(dim=-1), torch.full((2, 7), 0.02 * 24**0.5))
