"""Whole checkpoints in one file, loaded with the configurations of a folder: the same base as in diffusers' layout."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from single_files import write_single_file
from tiny_adapters import build_tiny_adapter, tiny_picture

from fourdistill import FourDistillPipeline
from fourdistill.errors import InputError
from fourdistill.models.base.model import load_base


def without_weights(base, folder) -> Path:
    """What a model's repository has beside its weights; image encoder and IP-Adapter are kept."""
    shutil.copytree(base, folder)
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        for path in (folder / part).glob("*.safetensors"):
            path.unlink()
    return folder


@pytest.fixture(scope="module", params=["tiny_base", "tiny_xl"])
def whole(request, tmp_path_factory):
    """A base, and the same as one file in a folder of configurations."""
    base, folder = request.getfixturevalue(request.param), tmp_path_factory.mktemp("single") / "configs"
    without_weights(base, folder)
    return base, write_single_file(base, folder / "model.safetensors")


def assert_same(found, expected):
    for mine, theirs in zip(found.models(), expected.models(), strict=True):
        theirs = theirs.state_dict()
        assert mine.state_dict().keys() == theirs.keys()
        assert all(torch.equal(value, theirs[name]) for name, value in mine.state_dict().items())
    assert found.scheduler.config == expected.scheduler.config


def test_one_file_is_the_base_that_it_was_made_of(whole):
    base, path = whole
    expected = load_base(str(base))
    found = load_base(str(path))  # with the configurations in its own folder
    assert_same(found, expected)
    assert found.zero_empty_prompt == expected.zero_empty_prompt and found.ip_adapter is not None
    assert found.tokenizer("a man").input_ids == expected.tokenizer("a man").input_ids
    assert found.feature_extractor.to_dict() == expected.feature_extractor.to_dict()


def test_configurations_may_lie_elsewhere_and_weights_in_half_precision(whole, tmp_path):
    base, path = whole
    half = write_single_file(base, tmp_path / "half.safetensors", torch.float16)
    found, expected = load_base(str(half), config=str(path.parent)), load_base(str(base))
    assert found.unet.dtype == torch.float32
    for part in ("unet", "vae", "text_encoder"):
        for mine, theirs in zip(getattr(found, part).parameters(), getattr(expected, part).parameters(), strict=True):
            assert torch.equal(mine, theirs.half().float())
    assert load_base(str(half), config=str(path.parent), dtype=torch.float16).unet.dtype == torch.float16


def test_the_pipeline_takes_it_as_it_takes_a_folder(whole, tmp_path):
    base, path = whole
    adapter = build_tiny_adapter(base, tmp_path / "adapter")
    pictures = []
    for each in (base, path):
        pipe = FourDistillPipeline.from_pretrained(each, adapter)
        pipe.set_progress_bar_config(disable=True)
        pictures.append(pipe(tiny_picture(), "a man", 0.2, seed=0, num_inference_steps=2, output_type="latent").images)
    assert torch.allclose(*pictures, atol=1e-4)  # weights lie elsewhere in memory, which changes roundings


def test_a_file_without_all_weights_is_refused(whole, tmp_path):
    _, path = whole
    weights = load_file(path)
    name = next(name for name in weights if name.startswith("model.diffusion_model.middle_block.1"))
    del weights[name]
    save_file(weights, tmp_path / "part.safetensors")
    with pytest.raises(InputError, match=r"part\.safetensors: .*: some of its parts' weights are missing"):
        load_base(str(tmp_path / "part.safetensors"), config=str(path.parent))


def test_configurations_beside_a_folder_are_not_read(whole):
    base, path = whole
    with pytest.raises(InputError, match="config: expected none beside"):
        load_base(str(base), config=str(path.parent))
