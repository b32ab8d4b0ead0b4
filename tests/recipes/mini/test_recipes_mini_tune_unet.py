"""The U-Net's tuning to a prior's predictions, on tiny scenes and the shipped base."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from imports import ROOT
from ruamel.yaml import YAML
from safetensors.torch import load_file
from stage_runs import run_stage, write_scenes
from stage_settings import prior_settings, settings_of

sys.path.insert(0, str(ROOT / "recipes" / "mini"))

import tune_unet
from diffusers import StableDiffusionPipeline

from fourdistill.features.settings import Augmentations
from fourdistill.models.base.model import load_base
from fourdistill.params import load_params
from fourdistill.training.prior.train import train_prior

MINI = ROOT / "data" / "base" / "mini"
SETTINGS = {
    "predicted": 0.5, "batch_size": 4, "steps": 2, "learning_rate": 1e-3, "ema_decay": 0.5,
    "timestep_bias": 1.0, "drop": {"text": 0.2, "image": 0.2, "both": 0.1}, "no_tokens": 0.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def params(tmp_path_factory):
    """The data stages' outputs, a prior, and parameters that point at them."""
    folder = tmp_path_factory.mktemp("tuned")
    write_scenes(folder)
    for stage in ("extract_frames", "build_pairs", "encode_frames"):
        run_stage(stage, folder, str(MINI))
    train_prior(
        folder / "pairs.parquet", folder / "features",
        prior_settings(num_components=6, batch_size=8, max_steps=2, width=16, depth=1, num_rotations=8),
        Augmentations(mirror=False, recolour=False), settings_of("displacement").view_encoding, seed=0,
        prior_folder=folder / "prior", live_folder=folder / "live", checkpoint_folder=folder / "checkpoint",
    )  # fmt: skip
    names = {"pairs_table": "pairs.parquet", "frames_table": "frames.parquet", "features": "features", "prior": "prior"}
    over = {"paths": {"base": str(MINI)} | {name: str(folder / path) for name, path in names.items()}}
    YAML().dump(over, folder / "over.yaml")
    return load_params(ROOT / "params.yaml", folder / "over.yaml")


@pytest.fixture(scope="module")
def pipe():
    return StableDiffusionPipeline.from_pretrained(MINI)


@pytest.mark.parametrize("predicted", [0.0, 1.0])
def test_image_prompts_are_the_targets_own_or_predictions(params, pipe, predicted):
    examples = tune_unet.load_examples(params, pipe, predicted)
    latents, image, caption = examples.draw(8, np.random.default_rng(0))
    index = torch.from_numpy(np.random.default_rng(0).choice(len(examples.pairs), 8, replace=False))
    pairs = examples.pairs(index[:, None], torch.zeros(8, dtype=torch.long))
    codes = examples.prior.predict(pairs.sources, pairs.conditions) if predicted else pairs.targets
    torch.testing.assert_close(examples.prior.codec.encode(image), codes, atol=1e-3, rtol=1e-3)
    assert latents.shape[1] == 8 and not caption.any() and len(examples.text) == 2  # one caption, and the empty one


def test_the_saved_base_is_whole_and_its_image_attention_is_trained(params, monkeypatch):
    monkeypatch.setattr(tune_unet, "load_section", {"tune_unet": SETTINGS, "seed": 0}.__getitem__)
    tune_unet.main(params)
    out: Path = params.paths.prior.with_name("base")
    load_base(str(out))  # whole
    before, after = ({**unet_weights(folder), **image_prompt_weights(folder)} for folder in (MINI, out))
    assert after.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("ip_adapter.") for name in changed) and "conv_in.weight" in changed
    assert not any(name.startswith("image_proj.") for name in changed)  # the projector is frozen


def unet_weights(folder):
    return load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")


def image_prompt_weights(folder):
    return load_file(folder / "ip_adapter" / tune_unet.CHECKPOINT)
