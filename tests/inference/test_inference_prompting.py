"""The prompt strength: one number that sets text guidance and lambda, unless they are given."""

import pytest
import torch
from tiny_adapters import start_tiny_adapter, tiny_picture

from fourdistill.inference.pipeline import FourDistillPipeline
from fourdistill.inference.prompting import lambdas_of, text_guidance_of
from fourdistill.models.base.model import load_base


@pytest.fixture(scope="module")
def pipe(tiny_base):
    base = load_base(str(tiny_base))
    pipe = FourDistillPipeline.from_parts(base, start_tiny_adapter(base))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe, prompt, **arguments):
    given = {"time": 0.2, "seed": 0, "num_inference_steps": 2, "output_type": "latent", **arguments}
    return pipe(tiny_picture(), prompt, **given).images


def test_what_a_strength_means():
    assert [text_guidance_of(["a man"], strength) for strength in (0.0, 0.5, 1.0)] == [1, 3.5, 6]
    for nothing in ([None], [""], [None, ""]):
        assert text_guidance_of(nothing, 1.0) == 1
    prompts = ["a man", None, ""]
    for strength, lambda_ in ((0.0, 3.0), (0.5, 2.5), (1.0, 2.0)):
        assert lambdas_of(prompts, strength, own=3.0).tolist() == pytest.approx([lambda_, 3, 3])


@pytest.mark.parametrize(("strength", "text_guidance", "lambda_"), [(0.0, 1, 3), (0.5, 3.5, 2.5), (1.0, 6, 2)])
def test_it_decides_guidance_and_lambda(pipe, strength, text_guidance, lambda_):
    found = draw(pipe, "a man", prompt_strength=strength)
    assert torch.allclose(found, draw(pipe, "a man", text_guidance=text_guidance, lambda_=lambda_), atol=1e-5)
    if strength == 1:
        assert torch.equal(found, draw(pipe, "a man"))


def test_what_is_given_takes_its_place(pipe):
    both = draw(pipe, "a man", text_guidance=2.0, lambda_=0.5)
    assert torch.equal(draw(pipe, "a man", text_guidance=2.0, lambda_=0.5, prompt_strength=0), both)
    for given, other in (
        ({"text_guidance": 2.0}, {"text_guidance": 2.0, "lambda_": 2.0}),
        ({"lambda_": 0.5}, {"lambda_": 0.5, "text_guidance": 6.0}),
    ):
        found = draw(pipe, "a man", **given)
        assert torch.allclose(found, draw(pipe, "a man", **other), atol=1e-5)
        assert not torch.allclose(found, both, atol=1e-3)


def test_without_a_prompt_it_means_nothing_even_beside_one(pipe):
    without = draw(pipe, None)
    assert torch.equal(draw(pipe, None, prompt_strength=0), without)
    mixed = draw(pipe, ["a man", None, "", "a woman"])
    for image, prompt in zip(mixed, ("a man", None, "", "a woman"), strict=True):
        assert torch.allclose(image, draw(pipe, prompt)[0], atol=1e-4)
    parts = draw(pipe, ["a man", None, "", "a woman"], batch_size=3)
    assert torch.allclose(parts, mixed, atol=1e-4)


def test_a_whole_number_as_lambda_leaves_room_for_fractions():
    assert torch.full_like(lambdas_of([None], 1.0, own=3), 0.5).tolist() == [0.5]
