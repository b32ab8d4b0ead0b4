"""Every picture metric must get worse, step by step, with increasing blur or noise on the true pictures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from rings import ring

from fourdistill.evaluation.metrics.control import control_values, outcomes
from fourdistill.evaluation.metrics.image_metrics import psnr, ssim, to_tensor
from fourdistill.evaluation.metrics.sequences import SequenceDistance, warp_error
from fourdistill.evaluation.protocol.command import Command
from fourdistill.geometry.displacement import Displacement

SIZE, NUM_CAMERAS, NUM_FRAMES = 48, 6, 10
CELLS = [(camera, frame) for camera in range(NUM_CAMERAS) for frame in range(NUM_FRAMES)]
GRID = ring(NUM_CAMERAS, NUM_FRAMES)


def picture(camera: int, frame: int) -> Image.Image:
    """A ball that moves in front of a wall, with colours that depend on the camera."""
    rng = np.random.default_rng(camera)
    wall = Image.fromarray(rng.integers(60, 200, (6, 6, 3), dtype=np.uint8)).resize(
        (SIZE, SIZE), Image.Resampling.BICUBIC
    )
    ball = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((14, 14), Image.Resampling.BICUBIC)
    wall.paste(ball, (3 * frame + 2, 14 + camera))
    return wall


TRUTH = [picture(*cell) for cell in CELLS]
ROWS = [TRUTH[camera * NUM_FRAMES : (camera + 1) * NUM_FRAMES] for camera in range(NUM_CAMERAS)]  # one sweep per camera


def blurred(images, level):
    return [image.filter(ImageFilter.GaussianBlur((0, 2, 6, 40)[level])) for image in images]


def noised(images, level, seed=0):
    rng = np.random.default_rng(seed)
    sigma = (0, 25, 150, 2000)[level]
    arrays = [np.asarray(image, float) + sigma * rng.normal(size=(SIZE, SIZE, 3)) for image in images]
    return [Image.fromarray(array.clip(0, 255).astype(np.uint8)) for array in arrays]


def control_errors(images) -> dict[str, float]:
    """Errors of pictures as answers to commands from the middle frame of another camera to their own cells."""
    middle = [(camera + 1) % NUM_CAMERAS * NUM_FRAMES + NUM_FRAMES // 2 for camera, _ in CELLS]
    commands = [
        Command("joint", GRID.keys[a], GRID.keys[b], Displacement.from_user(), None) for b, a in enumerate(middle)
    ]
    features, truth = (np.stack([np.asarray(i, float).ravel() for i in every]) for every in (images, TRUTH))
    values = control_values(commands, outcomes(commands, features, {"s": GRID}, {"s": truth}))
    return {
        "time": values["time.mae_frames"][0].mean(),
        "azimuth": values["view.azimuth_error_deg"][0].mean(),
        "missed": 1 - values["joint.top1"][0].mean(),
    }


def errors(images) -> dict[str, float]:
    pixels, truth = to_tensor(images), to_tensor(TRUTH)
    rows = [images[i : i + NUM_FRAMES] for i in range(0, len(images), NUM_FRAMES)]
    quality = {"psnr": -float(psnr(pixels, truth).mean()), "ssim": -float(ssim(pixels, truth).mean())}
    return quality | control_errors(images) | {"distance": sequence_distance(rows)}


def sequence_distance(rows) -> float:
    """Distance with coarse grey pictures of norm 1 instead of CLIP features."""

    def features(sequences):
        small = [[np.asarray(i.convert("L").resize((12, 12)), float).ravel() for i in row] for row in sequences]
        centred = np.array(small) - 128
        return centred / np.linalg.norm(centred, axis=2, keepdims=True)

    return SequenceDistance(features(rows), features(ROWS)).value()


def test_blur_makes_every_metric_worse():
    steps = [errors(blurred(TRUTH, level)) for level in range(4)]
    assert steps[0]["time"] == steps[0]["azimuth"] == steps[0]["missed"] == 0
    for name in steps[0]:
        values = [step[name] for step in steps]
        assert (np.diff(values) >= -1e-9).all() and values[-1] > values[0], (name, values)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31))
def test_noise_makes_every_metric_worse(seed):
    steps = [errors(noised(TRUTH, level, seed)) for level in range(4)]
    for name in steps[0]:
        values = [step[name] for step in steps]
        assert (np.diff(values) >= -1e-9).all() and values[-1] > values[0], (name, values)


@pytest.mark.parametrize("level", [1, 2])
def test_flickering_blur_does_not_follow_the_flow(level):
    flicker = [blurred([image], level * (i % 2))[0] for i, image in enumerate(ROWS[0])]
    assert warp_error(flicker, ROWS[0]) > warp_error(ROWS[0], ROWS[0])
