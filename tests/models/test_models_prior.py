import dataclasses
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stage_settings import prior_config
from tiny_displacements import some_displacements

from fourdistill.errors import InputError
from fourdistill.geometry.displacement import Displacement
from fourdistill.models.codec import FIRST_STD, fit_codec
from fourdistill.models.conditions import Conditions
from fourdistill.models.prior import (
    UNMOVED,
    DisplacementPrior,
    draw_frequencies,
)
from fourdistill.models.view_encoding import NUM_ANGLES, displacement_angles

FORM = prior_config(5, 6, num_components=8, width=16, depth=2, num_rotations=24)


def embeddings(count=64, rank=8):
    """Embeddings near a subspace of `rank` dimensions, with a different scale for each channel."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(count, rank, generator=generator) * torch.arange(rank, 0, -1)
    flat = factors @ torch.randn(rank, 30, generator=generator) + 0.01 * torch.randn(count, 30, generator=generator)
    return flat.unflatten(-1, (5, 6)) * torch.tensor([1.0, 10.0, 1.0, 1.0, 0.1, 1.0]) + 3


def conditions(codes):
    count = len(codes)
    return Conditions(
        image_embeds=codes,
        has_image=torch.ones(count, dtype=torch.bool),
        displacement=dataclasses.replace(
            some_displacements([True] * count, [False] * count), time=torch.linspace(-1, 1, count)
        ),
    )


@pytest.fixture
def prior():
    prior = DisplacementPrior(FORM, torch.Generator().manual_seed(0))
    prior.codec.load_state_dict(fit_codec(embeddings(), 8, seed=0).state_dict())
    return prior.eval()


def test_codes_keep_the_embeddings_and_fall_in_variance():
    embeds = embeddings()
    codec = fit_codec(embeds, 8, seed=0)
    codes = codec.encode(embeds)
    left = ((codec.decode(codes) - embeds) / codec.std).square().mean()
    assert codes.shape == (64, 8) and left < 1e-3
    std = codes.std(dim=0)
    assert std[0].item() == pytest.approx(FIRST_STD, rel=0.05)
    assert (std[1:] <= std[:-1] + 1e-4).all()
    assert torch.allclose(codec.encode(codec.decode(codes)), codes, atol=1e-3)


def test_the_codec_follows_from_its_seed_and_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    first = fit_codec(embeddings(), 8, seed=0)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))
    assert torch.equal(first.components, fit_codec(embeddings(), 8, seed=0).components)


def test_no_more_components_than_the_data_have():
    assert fit_codec(embeddings(count=5), 8, seed=0).num_components == 4


def test_an_absent_displacement_has_no_influence(prior):
    codes = torch.randn(4, 8, generator=torch.Generator().manual_seed(2))
    plain = conditions(codes)
    before = plain.displacement
    moved_view = dataclasses.replace(plain, displacement=dataclasses.replace(before, azimuth=before.azimuth + 1))
    moved_time = dataclasses.replace(plain, displacement=dataclasses.replace(before, time=before.time / 2))
    after = prior([codes], plain)
    assert torch.isfinite(after).all()
    assert torch.equal(after, prior([codes], moved_view))
    assert not torch.allclose(after, prior([codes], moved_time), atol=1e-4)


def displacement(time, azimuth, elevation=0.0, radius=0.0):
    """A batch of one, not built from degrees, so that angles beyond a half turn are possible."""
    numbers = torch.tensor([time, azimuth, elevation, radius])[:, None]
    yes = torch.tensor([True])
    return Displacement(numbers[0], numbers[1], numbers[2], numbers[3], torch.eye(3, 4).reshape(1, 12), yes, yes)


angles = st.floats(-3, 3)


@given(st.floats(-0.5, 0.5), angles, st.floats(-0.5, 0.5), angles)
def test_displacements_add_up(time_a, azimuth_a, time_b, azimuth_b):
    frequencies = draw_frequencies(FORM, torch.Generator().manual_seed(0))
    one, two, both = (
        displacement_angles(displacement(*each), "spherical") @ frequencies
        for each in ((time_a, azimuth_a), (time_b, azimuth_b), (time_a + time_b, azimuth_a + azimuth_b))
    )
    assert torch.allclose((one + two).cos(), both.cos(), atol=1e-3)  # wrapping of the azimuth has no effect
    assert torch.allclose((one + two).sin(), both.sin(), atol=1e-3)


def test_some_points_stay_where_they_are_in_time_and_azimuth(prior):
    moved = displacement_angles(displacement(0.3, 1.0), "spherical") @ prior.frequencies
    still = (moved == 0).sum().item()
    assert still >= 24 // UNMOVED and still < 24


def test_no_displacement_at_all_turns_the_held_points_of_a_matrix():
    form = dataclasses.replace(FORM, view_encoding="matrix")
    frequencies = draw_frequencies(form, torch.Generator().manual_seed(0))
    held = form.num_rotations // UNMOVED
    assert held and not frequencies[:, :held].any() and frequencies[:, held:].all()


@pytest.mark.parametrize("encoding", ["spherical", "matrix"])
def test_no_displacement_turns_nothing(encoding):
    angles = displacement_angles(displacement(0.0, 0.0), encoding)
    assert angles.shape == (1, 1 + NUM_ANGLES[encoding]) and not angles.any()


def test_embeddings_are_displaced_through_their_codes(prior):
    embeds = embeddings(count=4)
    displaced = conditions(embeds)
    expected = prior.codec.decode(prior.predict([prior.codec.encode(embeds)], displaced))
    assert torch.allclose(prior.displace(displaced), expected)


def test_several_images_are_one_more_view_of_the_same(prior):
    codes = torch.randn(4, 8, generator=torch.Generator().manual_seed(2))
    here = conditions(codes)
    there = dataclasses.replace(here, displacement=dataclasses.replace(here.displacement, time=torch.zeros(4)))
    other_codes = codes.flip(0)
    single = prior([codes], here)
    twice = prior([codes, codes], dataclasses.replace(here, others=(here,)))
    both = prior([codes, other_codes], dataclasses.replace(here, others=(there,)))
    exchanged = prior([other_codes, codes], dataclasses.replace(there, others=(here,)))
    assert torch.allclose(twice, single, atol=1e-5)
    assert torch.allclose(exchanged, both, atol=1e-5)
    assert not torch.allclose(both, single, atol=1e-3)


def test_conditions_of_several_images_are_indexed_and_joined_image_by_image():
    codes = torch.randn(4, 8, generator=torch.Generator().manual_seed(2))
    both = dataclasses.replace(conditions(codes), others=(conditions(codes + 1),))
    joined = Conditions.cat([both[:1], both[1:]])
    for image, expected in zip(joined.per_image, both.per_image, strict=True):
        assert torch.equal(image.image_embeds, expected.image_embeds) and not image.others
    assert torch.equal(both[2:3].others[0].image_embeds, codes[2:3] + 1)


def test_save_and_load_round_trip(prior, tmp_path):
    prior.save(tmp_path / "prior", {"steps": 3})
    loaded = DisplacementPrior.load(tmp_path / "prior")
    assert loaded.config == prior.config and not loaded.training
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in prior.state_dict().items())


def test_broken_files_are_one_clear_line(prior, tmp_path):
    with pytest.raises(InputError, match=r"config\.json: expected the configuration of a displacement prior"):
        DisplacementPrior.load(tmp_path)
    prior.save(tmp_path)
    (tmp_path / "prior.safetensors").write_bytes(b"not weights")
    with pytest.raises(InputError, match=r"prior\.safetensors: expected the weights"):
        DisplacementPrior.load(tmp_path)


def test_weights_of_the_other_sign_are_turned_round(prior, tmp_path):
    """Priors from before displacements were target minus source were trained with times of the opposite sign."""
    prior.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.pop("format_version") == 2
    (tmp_path / "config.json").write_text(json.dumps(config))
    old, codes = DisplacementPrior.load(tmp_path), torch.randn(4, 8)
    later = conditions(codes)
    earlier = dataclasses.replace(
        later, displacement=dataclasses.replace(later.displacement, time=-later.displacement.time)
    )
    assert torch.equal(old([codes], later), prior([codes], earlier))
    assert not torch.allclose(old([codes], later), prior([codes], later), atol=1e-4)
    old.save(tmp_path)  # converted only once
    assert torch.equal(DisplacementPrior.load(tmp_path).frequencies, old.frequencies)
