"""`make mini` from videos to a measured base: every stage but the renderer, tiny, on this machine's own device."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from imports import ROOT
from ruamel.yaml import YAML
from safetensors.torch import load_file

from fourdistill.models.base.model import load_base

RECIPE = ROOT / "recipes" / "mini"
SCENES = ("scene016_walk", "scene030_spinkick", "scene038_run", "scene085_walk", "scene089_kick")  # two are held out
STAGES = (
    "frames",
    "train_vae",
    "train_clip",
    "encode",
    "tune_decoder",
    "train_projector",
    "train_unet",
    "package",
    "measure",
)
TINY = {
    "split": {"val_scenes": 2},
    "vae": {"block_out_channels": [8, 8, 8, 16], "batch_size": 2, "crop_steps": 2, "full_steps": 1},
    "tune_decoder": {"batch_size": 2, "steps": 2},
    "clip": {"width": 64, "text_layers": 1, "vision_layers": 2, "heads": 1, "batch_size": 4, "steps": 2},
    "projector": {"batch_size": 4, "steps": 2},
    "unet": {
        "block_out_channels": [16, 16, 16], "heads": [1, 1, 1], "batch_size": 4, "steps": 2, "noise_steps": 1,
        "ema_decay": 0.5,
    },
    "measure": {"num_inference_steps": 2, "batch_size": 4, "num_samples": 4},
}  # fmt: skip


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """The work folder after all stages."""
    folder = tmp_path_factory.mktemp("make_mini")
    for scene in SCENES:
        (folder / "work" / "raw" / scene).mkdir(parents=True)
        for name in ("caption.txt", "cam00.mp4", "cam03.mp4", "cam05.mp4"):
            shutil.copy(ROOT / "data" / "raw" / "mocap" / scene / name, folder / "work" / "raw" / scene / name)
    shutil.copytree(RECIPE, folder / "mini", ignore=shutil.ignore_patterns("__pycache__"))
    params = YAML().load(RECIPE / "params.yaml")
    for name, values in TINY.items():
        assert values.keys() <= params[name].keys()
        params[name].update(values)
    params["gpu"] = {}  # tiny there, too
    YAML().dump(params, folder / "mini" / "params.yaml")
    run = f"import {', '.join(STAGES)}; [stage.main() for stage in ({', '.join(STAGES)})]"
    environment = {**os.environ, "FOURDISTILL_BASE_WORK": str(folder / "work"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", run], cwd=folder / "mini", env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return folder / "work"


def test_the_stages_are_those_of_the_recipe():
    stages = YAML(typ="safe").load((RECIPE / "dvc.yaml").read_text())["stages"]
    assert set(STAGES) == stages.keys() - {"render", "compare", "publish"}  # the last writes into the repository


def test_stock_diffusers_and_this_project_load_the_result(work):
    pipe = StableDiffusionPipeline.from_pretrained(work / "mini")
    assert pipe.unet.config["block_out_channels"] == [16, 16, 16]
    load_base(str(work / "mini"))  # whole, image prompt included


def test_it_is_measured_on_the_scenes_that_were_held_out(work):
    metrics = json.loads((work / "measured" / "base_metrics.json").read_text())
    assert metrics["num_captions"] == 2 and 0 < metrics["vae.psnr"] < 40 and metrics["seconds_per_image"] > 0


def test_only_the_decoder_is_tuned(work):
    before, after = (load_file(work / name / "model" / SAFETENSORS_WEIGHTS_NAME) for name in ("vae", "tuned_vae"))
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"post_quant_conv", "decoder"}


def test_every_training_was_logged_to_its_last_step(work):
    for name, steps in {"vae": 3, "tuned_vae": 2, "clip": 2, "projector": 2, "unet": 2}.items():
        assert json.loads((work / name / "dvclive" / "metrics.json").read_text())["step"] == steps
