"""The recipe of the shipped adapter, and the adapter itself."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from imports import ROOT
from PIL import Image
from ruamel.yaml import YAML
from stage_settings import adapter_settings, prior_config

from fourdistill.inference.inputs import broadcast, conditions_of_rows, with_displacements
from fourdistill.models.adapter import Adapter
from fourdistill.models.base.model import encode_image_prompt, load_base
from fourdistill.models.codec import fit_codec
from fourdistill.models.prior import DisplacementPrior
from fourdistill.params import load_params

RECIPE, SHIPPED = ROOT / "recipes" / "mini_adapter", ROOT / "models" / "mini-adapter"


def package(adapter, out, base):
    command = [sys.executable, RECIPE / "package.py", adapter, out, "--base", base]
    return subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_recipe_overrides_the_main_parameters():
    main, recipe = load_params(ROOT / "params.yaml"), load_params(ROOT / "params.yaml", RECIPE / "params.yaml")
    assert [source.prefix for source in recipe.sources] == ["", "people_", "motions_"]
    assert recipe.extract_frames.split == main.extract_frames.split  # the same data are held out
    assert recipe.train_prior.start == "scratch" and recipe.train_prior.max_steps > 0
    assert recipe.augmentations.mirror and recipe.augmentations.recolour
    words = load_params(ROOT / "params.yaml", RECIPE / "words.yaml")
    assert words.paths.prior == recipe.paths.prior and words.paths.shards != main.paths.shards
    assert words.sources == main.sources and words.paths.frames != recipe.paths.frames  # the sample alone
    assert words.train.start == "scratch" and words.train.max_steps > main.train.max_steps
    stages = YAML(typ="safe").load((RECIPE / "dvc.yaml").read_text())["stages"]
    for stage in stages.values():
        for dep in stage["deps"]:
            assert dep.startswith("$") or (ROOT / dep).exists(), dep


def test_the_packaged_adapter_is_small_and_the_same_but_for_rounding(tiny_base, tmp_path):
    base = load_base(str(tiny_base))
    generator = torch.Generator().manual_seed(0)
    embeds = torch.randn(40, 17, 32, generator=generator)
    prior = DisplacementPrior(prior_config(17, 32, num_components=6, width=16, depth=1, num_rotations=8), generator)
    prior.codec.load_state_dict(fit_codec(embeds, 6, seed=0).state_dict())
    adapter = Adapter.from_base(base, adapter_settings(), generator, prior)
    adapter.save(tmp_path / "adapter", {"steps": 7})
    done = package(tmp_path / "adapter", tmp_path / "small", tiny_base)
    assert done.returncode == 0, done.stderr
    weights = "adapter.safetensors"
    assert (tmp_path / "small" / weights).stat().st_size < 0.6 * (tmp_path / "adapter" / weights).stat().st_size
    small = Adapter.load(tmp_path / "small", base)
    assert small.config.training == {"steps": 7} and small.config.base == str(tiny_base)
    for name, value in small.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.allclose(value, adapter.state_dict()[name], rtol=0.07, atol=2e-3), name


def test_what_is_no_adapter_is_one_line_and_nothing_written(tiny_base, tmp_path):
    done = package(tmp_path / "nothing", tmp_path / "small", tiny_base)
    assert done.returncode == 2 and not (tmp_path / "small").exists()
    assert done.stderr.splitlines()[-1].startswith(f"error: {tmp_path / 'nothing'}")


@pytest.fixture(scope="module")
def shipped():
    return Adapter.load(SHIPPED, load_base(str(ROOT / "data/base/mini")))


def test_the_shipped_adapter_is_small_and_fits_its_base(shipped):
    assert sum(path.stat().st_size for path in Path(SHIPPED).iterdir()) < 30_000_000
    assert shipped.prior is not None and shipped.config.training["steps"] > 0


def test_the_shipped_prior_turns_all_the_way_round(shipped):
    """A full turn is the identity, half a turn is not: the prior treats azimuths as angles."""
    base = load_base(str(ROOT / "data/base/mini"))
    with Image.open(ROOT / "examples" / "backflip.png") as image:
        embeds = encode_image_prompt(base.image_encoder, base.feature_extractor, [image.convert("RGB")])
    turns = with_displacements(broadcast(image_embeds=embeds, time=None, azimuth=[0.0, 180.0, 360.0]), None)
    still, half, full = shipped.prior.displace(conditions_of_rows(turns, 0))
    assert torch.allclose(still, full, atol=1e-3)
    assert (half - still).abs().mean() > 0.1 * still.std()
