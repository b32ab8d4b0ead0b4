"""A prior that predicts from both sides of a mirror."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stage_settings import prior_config
from tiny_adapters import start_tiny_adapter
from tiny_displacements import some_displacements

from fourdistill.geometry.poses import relative_pose
from fourdistill.models.adapter import Adapter
from fourdistill.models.base.model import load_base
from fourdistill.models.codec import fit_codec
from fourdistill.models.conditions import Conditions
from fourdistill.models.folder import CONFIG_NAME
from fourdistill.models.mirror import CodeMirror, fit_mirror, mirrored, mirrored_conditions
from fourdistill.models.prior import DisplacementPrior

K = 8
FORM = prior_config(5, 6, num_components=K, width=16, depth=2, num_rotations=24)


def exchange(offset: float = 0.0) -> CodeMirror:
    """A mirror that exchanges the two halves of a code: like every mirror, it undoes itself."""
    mirror = CodeMirror(K)
    mirror.weight.copy_(torch.eye(K).roll(K // 2, dims=0))
    mirror.offset.copy_(torch.cat([torch.full((K // 2,), offset), torch.full((K // 2,), -offset)]))
    return mirror


def conditions(count: int, azimuth: float = 0.7, others: int = 0) -> Conditions:
    displacement = some_displacements([True] * count, [True] * count)
    turned = dataclasses.replace(displacement, azimuth=torch.full((count,), azimuth))
    one = Conditions(torch.zeros(count, 5, 6), torch.ones(count, dtype=torch.bool), turned)
    return dataclasses.replace(one, others=(one,) * others)


def some_codes(count: int) -> torch.Tensor:
    return torch.randn(count, K, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def prior():
    prior = DisplacementPrior(FORM, torch.Generator().manual_seed(0)).eval()
    prior.set_mirror(exchange(0.3))
    return prior


@given(st.floats(-3, 3), st.integers(0, 2))
def test_what_is_predicted_in_the_mirror_is_the_mirror_image_of_what_is_predicted(azimuth, others):
    prior = DisplacementPrior(FORM, torch.Generator().manual_seed(0)).eval()
    prior.set_mirror(mirror := exchange(0.3))
    codes = [torch.randn(4, K, generator=torch.Generator().manual_seed(number)) for number in range(1 + others)]
    seen = conditions(4, azimuth, others)
    behind = prior.predict([mirror(each) for each in codes], mirrored_conditions(seen))
    torch.testing.assert_close(behind, mirror(prior.predict(codes, seen)), atol=1e-4, rtol=1e-4)


def test_without_a_mirror_the_prediction_is_from_one_side():
    prior = DisplacementPrior(FORM, torch.Generator().manual_seed(0)).eval()
    codes, seen = [some_codes(4)], conditions(4)
    assert torch.equal(prior.predict(codes, seen), prior(codes, seen))


def test_both_sides_count_alike(prior):
    codes, seen = [some_codes(4)], conditions(4)
    here = prior(codes, seen)
    behind = prior.mirror(prior([prior.mirror(codes[0])], mirrored_conditions(seen)))
    assert not torch.allclose(here, behind, atol=1e-3)
    torch.testing.assert_close(prior.predict(codes, seen), (here + behind) / 2)


@pytest.mark.parametrize("others", [0, 1])
def test_images_are_displaced_from_both_sides(prior, others):
    embeds = torch.randn(64, 5, 6, generator=torch.Generator().manual_seed(2))
    prior.codec.load_state_dict(fit_codec(embeds, K, seed=0).state_dict())
    seen = conditions(64, others=others)
    seen = dataclasses.replace(seen, image_embeds=embeds, others=tuple(
        dataclasses.replace(each, image_embeds=embeds.flip(0)) for each in seen.others
    ))  # fmt: skip
    both = prior.displace(seen)
    prior.set_mirror(None)
    assert not torch.allclose(both, prior.displace(seen), atol=1e-2)


def test_an_adapter_is_saved_with_the_mirror_that_its_prior_has_got(tiny_base, tmp_path):
    base = load_base(str(tiny_base))
    adapter = start_tiny_adapter(base)
    assert adapter.prior is not None
    adapter.prior.set_mirror(CodeMirror(adapter.prior.config.num_components))
    adapter.save(tmp_path)
    loaded = Adapter.load(tmp_path, base).prior
    assert loaded is not None and loaded.mirror is not None


def test_the_map_is_found_from_images_and_their_mirror_images():
    mirror = exchange(0.3)
    codes = torch.randn(500, K, generator=torch.Generator().manual_seed(0)) + 2
    found = fit_mirror(codes, mirror(codes))
    torch.testing.assert_close(found(codes), mirror(codes), atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(found(found(codes)), codes, atol=2e-2, rtol=1e-2)


def test_fewer_images_than_components_still_give_a_finite_map():
    codes = torch.randn(3, K, generator=torch.Generator().manual_seed(0))
    found = fit_mirror(codes, exchange()(codes))
    assert torch.isfinite(found.weight).all() and found.weight.abs().max() < 2


def test_it_is_saved_and_loaded_with_the_prior(prior, tmp_path):
    prior.save(tmp_path)
    loaded = DisplacementPrior.load(tmp_path)
    codes, seen = [some_codes(4)], conditions(4)
    assert loaded.config.mirror and torch.equal(loaded.predict(codes, seen), prior.predict(codes, seen))


def test_priors_from_before_know_no_mirror(tmp_path):
    plain = DisplacementPrior(FORM, torch.Generator().manual_seed(0))
    plain.save(tmp_path)
    config = json.loads((tmp_path / CONFIG_NAME).read_text())
    assert config["config"].pop("mirror") is False
    (tmp_path / CONFIG_NAME).write_text(json.dumps(config))
    assert DisplacementPrior.load(tmp_path).mirror is None


def test_a_mirrored_displacement_is_that_between_mirrored_cameras():
    rng = np.random.default_rng(0)
    poses = []
    for _ in range(2):
        rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation * np.sign(np.linalg.det(rotation)), rng.standard_normal(3)
        poses.append(pose)
    flip = np.diag([-1.0, 1, 1, 1])  # the mirrored world, seen by cameras with flipped x axis
    through_the_mirror = [flip @ pose @ flip for pose in poses]
    expected = relative_pose(*through_the_mirror)[:3].ravel()
    plain = dataclasses.replace(
        some_displacements([True], [True]),
        relative_pose=torch.from_numpy(relative_pose(*poses)[:3].reshape(1, 12)).float(),
    )
    found = mirrored(plain)
    assert np.allclose(found.relative_pose[0], expected, atol=1e-6)
    assert found.azimuth == -plain.azimuth and found.elevation == plain.elevation and found.time == plain.time
