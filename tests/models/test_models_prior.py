import dataclasses

import pytest
import torch

from fourdistill.errors import InputError
from fourdistill.models.codec import FIRST_STD, fit_codec
from fourdistill.models.conditions import Conditions
from fourdistill.models.prior import DisplacementPrior, PriorConfig

FORM = PriorConfig(num_tokens=5, embeds_width=6, num_components=8, width=16, depth=2, dropout=0.5)


def embeddings(count=64, rank=8):
    """Embeddings near a space of `rank` dimensions, each channel with a scale of its own."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(count, rank, generator=generator) * torch.arange(rank, 0, -1)
    flat = factors @ torch.randn(rank, 30, generator=generator) + 0.01 * torch.randn(count, 30, generator=generator)
    return flat.unflatten(-1, (5, 6)) * torch.tensor([1.0, 10.0, 1.0, 1.0, 0.1, 1.0]) + 3


def conditions(codes):
    count = len(codes)
    return Conditions(
        image_embeds=codes,
        delta_time=torch.linspace(-1, 1, count),
        has_time=torch.ones(count, dtype=torch.bool),
        view=torch.randn(count, 4, generator=torch.Generator().manual_seed(1)),
        has_view=torch.zeros(count, dtype=torch.bool),
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
    given, noise = conditions(codes), torch.randn(4, 8, generator=torch.Generator().manual_seed(3))
    moved_view = dataclasses.replace(given, view=given.view + 1)
    moved_time = dataclasses.replace(given, delta_time=given.delta_time / 2)
    samples = prior.sample_codes(given, noise)
    assert torch.isfinite(samples).all()
    assert torch.equal(samples, prior.sample_codes(moved_view, noise))
    assert not torch.allclose(samples, prior.sample_codes(moved_time, noise), atol=1e-4)


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
