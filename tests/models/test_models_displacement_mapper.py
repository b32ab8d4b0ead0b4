"""The original's mappers, whose only input is the displacement, and their Fourier features."""

import dataclasses
import math

import pytest
import torch
from tiny_displacements import some_displacements

from fourdistill.models.conditions import Conditions
from fourdistill.models.fourier import FourierFeatures
from fourdistill.models.variants.displacement_mapper import DisplacementMapper, DisplacementNetwork
from fourdistill.models.view_encoding import encode_view

LAYERS, WORDS, WIDTH, TOKEN_STD = 7, 2, 24, 0.02
SHARED = {
    "num_words": WORDS,
    "sigma_timesteps": 1.0,
    "sigma_layer": 1.5,
    "num_layers": LAYERS,
    "num_train_timesteps": 1000,
    "num_frequencies": 16,
    "hidden_width": 32,
    "width": WIDTH,
    "token_std": TOKEN_STD,
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def network():
    return DisplacementNetwork([6.0], **SHARED, generator=seeded())


@pytest.fixture
def mapper():
    return DisplacementMapper(6.0, 2.0, "spherical", **SHARED, generator=seeded())


def conditions(has_time, has_view):
    batch = len(has_time)
    return Conditions(
        image_embeds=torch.zeros(batch, 0, 8),
        has_image=torch.ones(batch, dtype=torch.bool),
        displacement=some_displacements(has_time, has_view, seeded(1)),
    )


def parts(spoken):
    return spoken.v_base, spoken.key_bypass, spoken.value_bypass


def test_fourier_features_are_sines_and_cosines_of_saved_frequencies():
    features = FourierFeatures([1.0, 3.0], 5, seeded(3))
    x = torch.tensor([[0.2, -0.7]])
    angles = [0.2 * w[0] - 0.7 * w[1] for w in features.frequencies.tolist()]
    expected = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    assert features(x).tolist()[0] == pytest.approx(expected, abs=1e-6)
    assert "frequencies" in features.state_dict()


def test_fourier_sigma_is_per_input():
    frequencies = FourierFeatures([0.5, 8.0], 4000, seeded()).frequencies
    assert frequencies.std(dim=0).tolist() == pytest.approx([0.5, 8.0], rel=0.05)


def test_same_generator_seed_gives_the_same_frequencies():
    draws = [FourierFeatures([1.0], 8, seeded(seed)).frequencies for seed in (5, 5, 6)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_network_answers_for_every_layer_and_word_and_depends_on_all_inputs(network):
    times, timesteps = torch.tensor([[0.1], [0.1], [-0.4]]), torch.tensor([100, 900, 100])
    said = network(times, timesteps)
    assert said.shape == (3, LAYERS, WORDS, 3, WIDTH)
    assert not torch.allclose(said[0], said[1])  # timestep
    assert not torch.allclose(said[0], said[2])  # displacement
    assert not torch.allclose(said[0, 0], said[0, 6])  # layer
    assert not torch.allclose(said[0, 0, 0], said[0, 0, 1])  # word
    base, key, value = said[0].unbind(2)
    assert not torch.allclose(key, value)
    assert not torch.allclose(base / TOKEN_STD, key)


def test_a_base_is_counted_in_the_token_embeddings_deviation(network):
    last = network.mlp[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(1.0)
    base, key, value = network(torch.tensor([[0.1]]), torch.tensor([100])).unbind(3)
    assert torch.allclose(base, torch.full_like(base, TOKEN_STD))
    assert (key == 1).all() and (value == 1).all()


def test_timesteps_and_layers_are_scaled_to_minus_one_and_one(network):
    seen = []
    network.features.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    network(torch.tensor([[0.25]]), torch.tensor([750]))
    assert seen[0][0, 0].tolist() == pytest.approx([0.25, 0.5, -1.0])
    assert seen[0][0, 6].tolist() == pytest.approx([0.25, 0.5, 1.0])


def test_an_absent_displacement_adds_nothing_and_two_add_up(mapper):
    given = conditions([True, False, True, False], [False, True, True, False])
    timesteps = torch.tensor([100, 400, 700, 900])
    displacement = given.displacement
    time = mapper.time(displacement.time[:, None], timesteps)  # (B, num_layers, n, 3, D)
    view = mapper.view(encode_view(displacement, "spherical"), timesteps)
    expected = [time[0], view[1], time[2] + view[2], torch.zeros_like(time[3])]
    for part, found in enumerate(parts(mapper(given, timesteps))):
        assert found.shape == (4, LAYERS, WORDS, WIDTH)
        for sample, said in enumerate(expected):
            assert torch.allclose(found[sample], said[..., part, :], atol=1e-6), (part, sample)
    later = dataclasses.replace(displacement, time=displacement.time + 0.3)
    moved = dataclasses.replace(given, displacement=later)
    for before, after in zip(parts(mapper(given, timesteps)), parts(mapper(moved, timesteps)), strict=True):
        assert (before == after).flatten(1).all(dim=1).tolist() == [False, True, False, True]


def test_an_image_says_nothing_to_it(mapper):
    given, timesteps = conditions([True], [True]), torch.tensor([100])
    other = dataclasses.replace(given, image_embeds=torch.ones(1, 5, 8), has_image=torch.tensor([False]))
    for before, after in zip(parts(mapper(given, timesteps)), parts(mapper(other, timesteps)), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize(("encoding", "inputs"), [("spherical", 4), ("matrix", 12)])
def test_the_view_comes_in_both_encodings(encoding, inputs):
    given = conditions([False, False], [True, True])
    assert encode_view(given.displacement, encoding).shape == (2, inputs)
    mapper = DisplacementMapper(6.0, 2.0, encoding, **SHARED, generator=seeded())
    assert mapper(given, torch.tensor([1, 2])).v_base.shape == (2, LAYERS, WORDS, WIDTH)


def test_spherical_encoding_is_wrap_safe():
    near = torch.tensor([math.pi - 1e-3, -math.pi + 1e-3])
    same = some_displacements([True], [True])[[0, 0]]
    first, second = encode_view(dataclasses.replace(same, azimuth=near), "spherical")
    assert torch.allclose(first, second, atol=3e-3)
