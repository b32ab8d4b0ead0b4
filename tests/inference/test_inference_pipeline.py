from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler, StableDiffusionPipeline
from PIL import Image
from tiny_adapters import start_tiny_adapter

from fourdistill.errors import InputError
from fourdistill.inference.inputs import ConditionImage
from fourdistill.inference.noise import prepare_noise
from fourdistill.inference.pipeline import FourDistillPipeline
from fourdistill.inference.prompting import TEXT_GUIDANCE
from fourdistill.models.adapter import Adapter
from fourdistill.models.base.model import load_base
from fourdistill.models.prior import DisplacementPrior
from fourdistill.models.settings import MAPPER_INPUTS, Sampling

_, ORIGINAL = MAPPER_INPUTS  # the other is the default


@pytest.fixture(scope="module", params=MAPPER_INPUTS)
def adapter_folder(request, tiny_base, tmp_path_factory):
    return make_adapter(tiny_base, tmp_path_factory.mktemp("adapter"), mapper_input=request.param)


def make_adapter(tiny_base, folder, **settings):
    """An untrained adapter, whose image prompt is the base's own."""
    start_tiny_adapter(load_base(str(tiny_base)), **settings).save(folder)
    return folder


def load(tiny_base, folder):
    pipe = FourDistillPipeline.from_pretrained(tiny_base, adapter=folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def pipe(tiny_base, adapter_folder):
    return load(tiny_base, adapter_folder)


def picture(seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def seeds(count):
    return [torch.Generator().manual_seed(i) for i in range(count)]


def latents(pipe, **kwargs) -> Any:
    kwargs = {"num_inference_steps": 3, "output_type": "latent", **kwargs}
    return pipe(**kwargs).images


def test_lists_broadcast_to_a_batch_of_images(pipe):
    images = pipe(image=picture(), time=[-0.5, 0.0, 0.5], azimuth=45, num_inference_steps=2).images
    assert [image.size for image in images] == [(32, 32)] * 3
    arrays = pipe(image=[picture(), picture(1)], num_inference_steps=2, output_type="np").images
    assert arrays.shape == (2, 32, 32, 3) and arrays.min() >= 0 and arrays.max() <= 1


def test_every_condition_changes_the_image(pipe):
    changes = [
        {},
        {"image": picture(1)},
        {"image": None},
        {"prompt": "a man in a red top"},
        {"time": 0.2},
        {"time": 0.4},
        {"azimuth": 45},
        {"azimuth": 45, "elevation": 20},
        {"radius": 1.3},
        {"time": 0.2, "lambda_": 5.0},
        {"time": 0.2, "guidance_scale": 3.0},
        {"time": 0.2, "guidance_scale": 3.0, "guidance_rescale": 0.7},
        {"time": 0.2, "noise_scale": 0.5},
        {"time": 0.2, "time_guidance": 3.0},
        {"time": 0.2, "azimuth": 45, "view_guidance": 3.0},
        {"time": 0.2, "image_guidance": 2.0},
        {"prompt": "a man in a red top", "text_guidance": 2.0},
    ]
    if pipe.adapter.prior is None:
        changes += [{"time": 0.2, "image_scale": 0.5}]
    else:
        changes += [{"time": 0.2, "carrier": "image_prompt", "image_scale": scale} for scale in (1.0, 0.5)]
    results = [latents(pipe, **{"image": picture(), "generator": seeds(1), **change}) for change in changes]
    for i, first in enumerate(results):
        assert torch.isfinite(first).all()
        for second in results[:i]:
            assert not torch.allclose(first, second, atol=1e-4)


def test_the_adapters_own_sampling_is_for_images(tiny_base, tmp_path):
    """With an image, guidance and noise are the adapter's; without one, and where asked otherwise, they are not."""
    sampling = Sampling(guidance_scale=2.0, noise_scale=0.5)
    own = load(tiny_base, make_adapter(tiny_base, tmp_path / "adapter", sampling=sampling))
    plain, asked = {"guidance_scale": 1.0, "noise_scale": 1.0}, {"guidance_scale": 2.0, "noise_scale": 0.5}
    for image, expected, other in ((picture(), asked, plain), (None, plain, asked)):
        kwargs = {"image": image, "time": 0.2, "prompt": "a man", "seed": 1}
        assert torch.equal(latents(own, **kwargs), latents(own, **kwargs, **expected))
        assert not torch.allclose(latents(own, **kwargs), latents(own, **kwargs, **other), atol=1e-4)


def test_less_noise_is_the_same_noise_scaled(pipe):
    noise = prepare_noise(pipe.unet, 1, seeds(1), None, torch.device("cpu"))
    given = {"image": picture(), "time": 0.2}
    less = latents(pipe, **given, generator=seeds(1), noise_scale=0.5)
    assert torch.allclose(less, latents(pipe, **given, latents=noise / 2, noise_scale=1.0), atol=1e-5)
    none = [latents(pipe, **given, seed=seed, noise_scale=0.0) for seed in (1, 2)]
    assert torch.equal(*none)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_an_image_does_not_depend_on_its_batch(pipe, guidance_scale):
    kwargs = {"image": picture(), "guidance_scale": guidance_scale}
    times, azimuths, prompts = [0.3, None, -0.2, None], [None, 30.0, 10.0, None], ["", "a man", "", "a top"]
    together = latents(pipe, time=times, azimuth=azimuths, prompt=prompts, generator=seeds(4), **kwargs)
    for i, generator in enumerate(seeds(4)):
        one = latents(pipe, time=times[i], azimuth=azimuths[i], prompt=prompts[i], generator=[generator], **kwargs)
        assert torch.allclose(together[i], one[0], atol=1e-4)


def stock_pipeline(tiny_base) -> Any:
    stock = StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None)
    stock.set_progress_bar_config(disable=True)
    return stock


def stock_latents(stock, **kwargs):
    kwargs = {"guidance_scale": 1, "num_inference_steps": 3, "output_type": "latent", **kwargs}
    return stock("a man", generator=seeds(1)[0], **kwargs).images


def test_shown_without_displacement_it_is_diffusers_ip_adapter_pipeline(pipe, tiny_base):
    stock = stock_pipeline(tiny_base)
    stock.load_ip_adapter(str(tiny_base), subfolder="ip_adapter", weight_name="ip-adapter-plus_tiny.safetensors")
    expected = stock_latents(stock, ip_adapter_image=picture())
    given = {"image": picture(), "prompt": "a man", "prompt_strength": 0}
    carrier = "words" if pipe.adapter.prior is None else "image_prompt"  # without a prior there are always both
    out = latents(pipe, **given, generator=seeds(1)[0], carrier=carrier)
    assert torch.allclose(out, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("given", "guidance_scale"),
    [({"prompt_strength": 0}, 1.0), ({"guidance_scale": 3.0, "prompt_strength": 0}, 3.0), ({}, TEXT_GUIDANCE)],
)
def test_without_an_image_it_is_diffusers_text_to_image_pipeline(tiny_base, tmp_path, given, guidance_scale):
    pipe = load(tiny_base, make_adapter(tiny_base, tmp_path))
    expected = stock_latents(stock_pipeline(tiny_base), guidance_scale=guidance_scale)
    for displaced in ({}, {"time": 0.3, "azimuth": 20}):  # without an image, no effect
        out = latents(pipe, prompt="a man", generator=seeds(1)[0], **given, **displaced)
        assert torch.allclose(out, expected, atol=1e-4)


def test_guidance_runs_both_branches_in_one_call_of_the_unet(pipe):
    batches = []
    pipe.unet.register_forward_pre_hook(lambda _, args: batches.append(len(args[0])))
    latents(pipe, image=picture(), time=[0.1, 0.2], guidance_scale=2.0)
    assert batches == [4, 4, 4]


def test_guidance_goes_away_from_the_prediction_without_conditions(pipe):
    kwargs = {"num_inference_steps": 1, "image": picture(), "time": 0.3, "prompt": "a man", "prompt_strength": 0}
    conditional = latents(pipe, generator=seeds(1), **kwargs)
    unconditional = latents(pipe, generator=seeds(1), num_inference_steps=1)
    guided = latents(pipe, generator=seeds(1), guidance_scale=2.5, **kwargs)
    assert torch.allclose(guided, unconditional + 2.5 * (conditional - unconditional), atol=1e-4)


@pytest.mark.parametrize(
    ("weight", "missing"),
    [("text_guidance", "prompt"), ("image_guidance", "image"), ("time_guidance", "time"), ("view_guidance", "azimuth")],
)
def test_guidance_goes_away_from_the_prediction_without_one_condition(pipe, weight, missing):
    kwargs = {"image": picture(), "time": 0.3, "azimuth": 20, "prompt": "a man"}
    kwargs |= {"num_inference_steps": 1, "prompt_strength": 0}
    full = latents(pipe, generator=seeds(1), **kwargs)
    without = latents(pipe, generator=seeds(1), **(kwargs | {missing: None}))
    guided = latents(pipe, generator=seeds(1), **kwargs, **{weight: 2.5})
    assert not torch.allclose(full, without, atol=1e-4)
    assert torch.allclose(guided, without + 2.5 * (full - without), atol=1e-5)


def test_words_are_made_once_where_no_timestep_changes_them(pipe):
    sequences = []
    pipe.text_encoder.encoder.layers[0].mlp.register_forward_pre_hook(lambda _, args: sequences.append(args[0].shape))
    latents(pipe, image=picture(), time=[0.1, 0.2, 0.1, None], azimuth=30, num_inference_steps=5)
    single_tokens = [shape[0] for shape in sequences if len(shape) == 2]
    samples, words, layers, steps = 4, 4, 7, 5
    once = pipe.adapter.prior is not None
    assert single_tokens == ([samples * words] if once else [samples * layers * words] * steps)


def test_a_prompt_that_a_callback_has_changed_stays(pipe):
    prompts = []

    def hook(module, args, kwargs):
        prompts.append(kwargs["encoder_hidden_states"].text)

    def change(_, step, __, tensors):
        return {} if step else {"prompt_embeds": torch.ones_like(tensors["prompt_embeds"])}

    pipe.unet.register_forward_pre_hook(hook, with_kwargs=True)
    asked = {"callback_on_step_end": change, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    latents(pipe, image=picture(), time=0.1, num_inference_steps=4, **asked)
    assert [bool((prompt == 1).all()) for prompt in prompts] == [False, True, True, True]


def test_image_embeds_replace_the_image(pipe):
    embeds = pipe.encode_image([picture()])
    expected = latents(pipe, image=picture(), time=[0.1, 0.2], generator=seeds(2))
    assert torch.allclose(latents(pipe, image_embeds=embeds, time=[0.1, 0.2], generator=seeds(2)), expected, atol=1e-5)


def test_further_condition_images_are_used_each_with_its_own_displacement(pipe):
    if pipe.adapter.prior is None:
        with pytest.raises(InputError, match="others: expected no further condition images"):
            latents(pipe, image=picture(), time=0.1, others=[ConditionImage(picture(1), time=0.1)])
        return
    single = latents(pipe, image=picture(), time=0.1, generator=seeds(1))
    moved = {"image": picture(), "time": 0.1, "generator": seeds(1)}
    same = latents(pipe, **moved, others=[ConditionImage(picture(), time=0.1)])
    moved["generator"] = seeds(1)
    more = latents(pipe, **moved, others=[ConditionImage(picture(1), azimuth=30)])
    assert torch.allclose(same, single, atol=1e-4)
    assert not torch.allclose(more, single, atol=1e-3)
    batch = latents(
        pipe, image=picture(), time=[0.1, 0.2], generator=seeds(2), others=[ConditionImage(picture(1), azimuth=30)]
    )
    assert torch.allclose(batch[:1], more, atol=1e-4)


def test_guidance_drops_displacements_of_every_image(tiny_base, tmp_path):
    pipe = load(tiny_base, make_adapter(tiny_base, tmp_path))
    arguments = {"image": picture(), "time": 0.1, "time_guidance": 0.0}
    out = [
        latents(pipe, **arguments, generator=seeds(1), others=[ConditionImage(picture(1), time=time)])
        for time in (0.1, 0.9)
    ]
    assert torch.allclose(*out, atol=1e-4)  # at weight 0, the prediction does not depend on the time


@pytest.mark.parametrize("scheduler", [EulerDiscreteScheduler, HeunDiscreteScheduler, DDIMScheduler])
def test_any_diffusers_scheduler(tiny_base, adapter_folder, scheduler):
    base_pipe = FourDistillPipeline.from_pretrained(tiny_base, adapter=adapter_folder)
    swapped = scheduler.from_config(base_pipe.scheduler.config)
    pipe = FourDistillPipeline.from_pretrained(tiny_base, adapter=adapter_folder, scheduler=swapped)
    pipe.set_progress_bar_config(disable=True)
    assert torch.isfinite(latents(pipe, image=picture(), time=0.2, guidance_scale=1.5)).all()


def test_to_moves_and_casts_every_part(pipe):
    pipe.to(torch.float64)
    out = latents(pipe, image=picture(), time=0.2, azimuth=10)
    assert out.dtype == torch.float64 and torch.isfinite(out).all()


@pytest.mark.parametrize("mapper_input", MAPPER_INPUTS)
def test_both_view_encodings_take_both_forms(tiny_base, tmp_path, mapper_input):
    pipe = load(tiny_base, make_adapter(tiny_base, tmp_path, mapper_input=mapper_input, view_encoding="matrix"))
    turned = latents(pipe, image=picture(), azimuth=90, generator=seeds(1))
    pose = np.array([[0.0, 0, -1, 1], [0, 1, 0, 0], [1, 0, 0, 1]])  # a quarter turn about a point 1 ahead
    assert torch.allclose(latents(pipe, image=picture(), relative_pose=pose, generator=seeds(1)), turned, atol=1e-4)


def turned_on_the_spot(degrees):
    """A camera that has turned about its own vertical and stands where it stood."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, 0, s, 0], [0, 1, 0, 0], [-s, 0, c, 0]])


@pytest.mark.parametrize("mapper_input", MAPPER_INPUTS)
def test_a_turn_that_has_no_effect_is_said_once(tiny_base, tmp_path, caplog, mapper_input):
    pipe = load(tiny_base, make_adapter(tiny_base, tmp_path / "spherical", mapper_input=mapper_input))
    poses = [turned_on_the_spot(degrees) for degrees in (0, 30, -60)]
    still, turned, far = latents(pipe, image=picture(), relative_pose=poses, seed=1)
    assert torch.allclose(turned, still, atol=1e-5) and torch.allclose(far, still, atol=1e-5)
    (line,) = caplog.messages
    assert "\n" not in line and line.startswith("relative_pose: the camera looks 60 degrees past the scene's centre")
    caplog.clear()
    latents(pipe, image=picture(), relative_pose=turned_on_the_spot(10))  # as real cameras are off
    latents(pipe, image=picture(), azimuth=[0, 120], elevation=40, radius=2)
    folder = make_adapter(tiny_base, tmp_path / "matrix", mapper_input=mapper_input, view_encoding="matrix")
    still, _, far = latents(load(tiny_base, folder), image=picture(), relative_pose=poses, seed=1)
    assert not torch.allclose(far, still, atol=1e-5) and not caplog.messages


def test_a_turn_of_another_image_is_said_too(tiny_base, tmp_path, caplog):
    pipe = load(tiny_base, make_adapter(tiny_base, tmp_path))
    latents(pipe, image=picture(), others=[ConditionImage(picture(), relative_pose=turned_on_the_spot(30))])
    (line,) = caplog.messages
    assert line.startswith("others[0].relative_pose: the camera looks 30 degrees")


def test_bad_inputs_name_the_argument(pipe):
    with pytest.raises(InputError, match="time: expected 1 or 3 values, got 2"):
        pipe(image=picture(), time=[0.1, 0.2], azimuth=[1, 2, 3])
    with pytest.raises(InputError, match=r"others\[0\].time: expected 1 or 3 values, got 2"):
        pipe(image=picture(), azimuth=[1, 2, 3], others=[ConditionImage(picture(), time=[0.1, 0.2])])
    with pytest.raises(InputError, match="others: expected an image beside them"):
        pipe(prompt="a cat", others=[ConditionImage(picture())])
    with pytest.raises(InputError, match="image_embeds: expected no image"):
        pipe(image=picture(), image_embeds=torch.zeros(1, 17, 32))


def test_the_prior_of_an_adapter_can_be_had_alone(tiny_base, tmp_path):
    folder = make_adapter(tiny_base, tmp_path)
    whole = Adapter.load(folder, load_base(str(tiny_base))).prior
    assert whole is not None
    alone = DisplacementPrior.load(folder).state_dict()
    assert alone.keys() == whole.state_dict().keys()
    assert all(torch.equal(value, alone[name]) for name, value in whole.state_dict().items())
    with pytest.raises(InputError, match=r"config\.json: expected the configuration of a displacement prior"):
        DisplacementPrior.load(make_adapter(tiny_base, tmp_path / "plain", mapper_input=ORIGINAL))
