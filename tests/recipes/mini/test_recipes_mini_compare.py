"""The measurements in the comparison of the base's design choices."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "recipes" / "mini"))

from compare import condition_gaps, predicted_picture
from frames import Frames
from train_unet import Examples, make_scheduler


@pytest.mark.parametrize("prediction_type", ["v_prediction", "epsilon"])
@pytest.mark.parametrize("beta_schedule", ["squaredcos_cap_v2", "scaled_linear"])
def test_a_perfect_prediction_stands_for_the_clean_latents(prediction_type, beta_schedule):
    scheduler: Any = make_scheduler({"prediction_type": prediction_type, "beta_schedule": beta_schedule})
    x, noise = torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    timestep = torch.tensor(600)
    noisy = scheduler.add_noise(x, noise, timestep.expand(3))
    perfect = noise if prediction_type == "epsilon" else scheduler.get_velocity(x, noise, timestep.expand(3))
    torch.testing.assert_close(predicted_picture(scheduler, perfect, noisy, timestep), x, atol=1e-4, rtol=1e-4)


class Repeats:
    """A U-Net that returns, as v-prediction, the picture whose number its text (or image tokens) contains."""

    def __init__(self, x: torch.Tensor, scheduler, *, reads: str) -> None:
        self.x, self.scheduler, self.reads = x, scheduler, reads

    def __call__(self, noisy, timesteps, states):
        text, (image,) = states
        number = text[:, 0, 0] if self.reads == "text" else image[:, 0, 0, 0]
        picture = self.x[number.long()]
        alpha = self.scheduler.alphas_cumprod[timesteps].reshape(-1, 1, 1, 1)
        return type("Output", (), {"sample": (alpha.sqrt() * noisy - picture) / (1 - alpha).sqrt()})


@pytest.mark.parametrize("reads", ["text", "image"])
def test_only_the_condition_that_is_read_has_a_gap(reads, monkeypatch):
    scenes, per_scene = 8, 4
    count = scenes * per_scene
    scene = np.repeat(np.arange(scenes, dtype=np.int32), per_scene)
    x = torch.randn(count, 2, 4, 4, generator=torch.Generator().manual_seed(0)).half()
    x[:] = x[scene * per_scene]  # one picture in each scene
    frames = Frames(np.zeros((count, 1)), scene, scene, [str(s) for s in range(scenes)], np.ones(count, bool))
    text = (torch.arange(scenes + 1) * per_scene).clamp(max=count - 1).float()[:, None, None].expand(-1, 2, 3)
    embeds = np.broadcast_to((scene * per_scene).astype(np.float16)[:, None, None], (count, 2, 3))
    examples = Examples(frames, x.numpy(), embeds, torch.zeros(2, 3), text)
    monkeypatch.setattr("compare.load_projector", lambda *_: torch.nn.Identity())

    params = {"prediction_type": "v_prediction", "beta_schedule": "squaredcos_cap_v2"}
    unet = Repeats(x.float(), make_scheduler(params), reads=reads)
    gaps = condition_gaps(unet, params, examples, [0.2], seed=0)
    other = "image" if reads == "text" else "text"
    assert gaps[f"{reads}.0.2.right"] == pytest.approx(0, abs=1e-4) and gaps[f"{reads}.0.2.other"] > 1
    assert gaps[f"{other}.0.2.right"] == pytest.approx(gaps[f"{other}.0.2.other"])
