"""The pipeline as a diffusers pipeline: loading and saving, schedulers, callbacks, outputs, seeds, sweeps."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionPipeline
from tiny_adapters import build_tiny_adapter, tiny_picture

import fourdistill
from fourdistill import FourDistillPipeline
from fourdistill.errors import InputError
from fourdistill.inference.saving import find_adapter
from fourdistill.models.settings import MAPPER_INPUTS

SCHEDULERS = [
    "ddim", "ddpm", "pndm", "euler-discrete", "heun-discrete", "EulerAncestralDiscreteScheduler",
    "dpmsolvermultistep", "dpmsolversinglestep", "kdpm2discrete", "deismultistep", "unipcmultistep",
]  # fmt: skip


@pytest.fixture(scope="module")
def adapter_folder(tiny_base, tmp_path_factory):
    return build_tiny_adapter(tiny_base, tmp_path_factory.mktemp("adapter"))


@pytest.fixture
def pipe(tiny_base, adapter_folder):
    pipe = FourDistillPipeline.from_pretrained(tiny_base, adapter=adapter_folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def files_of(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def latents(pipe, **kwargs) -> Any:
    return pipe(**{"image": tiny_picture(), "num_inference_steps": 3, "output_type": "latent", **kwargs}).images


def test_the_package_gives_the_names_it_promises():
    assert {getattr(fourdistill, name).__name__ for name in fourdistill.__all__} == set(fourdistill.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        fourdistill.nothing  # noqa: B018


@pytest.mark.parametrize("mapper_input", MAPPER_INPUTS)
def test_a_saved_pipeline_is_the_same_when_loaded(tiny_base, tmp_path, mapper_input):
    folder = build_tiny_adapter(tiny_base, tmp_path / "adapter", mapper_input=mapper_input)
    pipe = FourDistillPipeline.from_pretrained(tiny_base, folder, scheduler="euler-discrete")
    expected = latents(pipe, time=0.3, azimuth=20, seed=0)
    pipe.save_pretrained(tmp_path / "saved")
    assert torch.equal(latents(pipe, time=0.3, azimuth=20, seed=0), expected)  # saving does not change it
    loaded = FourDistillPipeline.from_pretrained(tmp_path / "saved")
    assert torch.allclose(latents(loaded, time=0.3, azimuth=20, seed=0), expected, atol=1e-6)
    assert type(loaded.scheduler) is type(pipe.scheduler) and loaded.adapter.config.training == {"steps": 3}
    index = json.loads((tmp_path / "saved/model_index.json").read_text())
    assert index["_class_name"] == "FourDistillPipeline" and index["adapter"][1] == "Adapter"
    files = {path.suffix for path in (tmp_path / "saved").rglob("*") if path.is_file()}
    assert files <= {".json", ".safetensors"}
    stock: Any = StableDiffusionPipeline.from_pretrained(tmp_path / "saved", safety_checker=None)
    plain: Any = StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None)
    assert all(torch.equal(a, b) for a, b in zip(stock.unet.parameters(), plain.unet.parameters(), strict=True))


def test_what_is_pushed_to_the_hub_is_what_is_saved(pipe, tmp_path, monkeypatch):
    uploaded = []

    def upload(_, folder, repo, **__):
        uploaded.append((repo, files_of(Path(folder))))

    monkeypatch.setattr("diffusers.utils.hub_utils.create_repo", lambda name, **_: SimpleNamespace(repo_id=name))
    monkeypatch.setattr(FourDistillPipeline, "_upload_folder", upload)
    pipe.push_to_hub("someone/walker")
    pipe.save_pretrained(tmp_path / "walker", push_to_hub=True, repo_id="someone/again")
    pipe.save_pretrained(tmp_path / "walker")
    saved = files_of(tmp_path / "walker")
    assert uploaded == [(repo, sorted(["README.md", *saved])) for repo in ("someone/walker", "someone/again")]
    assert "adapter/adapter.safetensors" in saved


def test_an_adapter_comes_from_the_hubs_cache(tiny_base, adapter_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--someone--walker" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "small").symlink_to(adapter_folder)
    refs = tmp_path / "models--someone--walker" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    pipe = FourDistillPipeline.from_pretrained(tiny_base, "someone/walker/small")
    assert pipe.adapter.config.training == {"steps": 3}
    with pytest.raises(InputError, match="someone/nobody: expected an adapter's folder, or one on the Hub"):
        FourDistillPipeline.from_pretrained(tiny_base, "someone/nobody")


def test_the_adapter_is_fetched_as_the_base_is(tiny_base, adapter_folder, tmp_path, monkeypatch):
    asked = []

    def snapshot_download(repo, **options):
        asked.append((repo, options))
        (tmp_path / "adapter").symlink_to(adapter_folder)
        return tmp_path

    monkeypatch.setattr("fourdistill.models.base.hub.snapshot_download", snapshot_download)
    hub: dict[str, Any] = {"token": "secret", "cache_dir": str(tmp_path / "cache")}
    assert find_adapter("someone/walker", None, revision="v2", variant="fp16", **hub) == tmp_path / "adapter"
    (tmp_path / "adapter").unlink()
    pipe = FourDistillPipeline.from_pretrained(tiny_base, "someone/else/adapter", revision="v2", **hub)
    assert pipe.adapter.config.training == {"steps": 3}
    wanted = {"allow_patterns": ["adapter/config.json", "adapter/adapter.safetensors"]}
    assert asked == [("someone/walker", hub | {"revision": "v2"} | wanted), ("someone/else", hub | wanted)]


@pytest.mark.parametrize(
    ("adapter", "message"),
    [(None, "expected an adapter beside it"), ("../nowhere", "expected an adapter's folder, or owner/repo")],
)
def test_without_an_adapter_it_is_an_input_error(tiny_base, adapter, message):
    with pytest.raises(InputError, match=message):
        FourDistillPipeline.from_pretrained(tiny_base, adapter)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_by_name_give_an_image_that_does_not_depend_on_its_batch(pipe, name):
    pipe.set_scheduler(name)
    together = latents(pipe, time=[0.3, -0.3], seed=[5, 6], num_inference_steps=4)
    alone = latents(pipe, time=-0.3, seed=6, num_inference_steps=4)
    assert torch.isfinite(together).all() and torch.allclose(together[1:], alone, atol=1e-4)


def test_an_unknown_scheduler_names_the_known_ones(pipe):
    with pytest.raises(InputError, match=r"scheduler: expected one of ddim, ddpm, .*, got 'magic'"):
        pipe.set_scheduler("magic")


def test_a_seed_is_an_image_whatever_the_batch(pipe):
    images = latents(pipe, time=[0.1, 0.2, 0.3], seed=7, guidance_scale=2.0)
    for time, image in zip([0.1, 0.2, 0.3], images, strict=True):
        own = torch.Generator().manual_seed(7)
        assert torch.allclose(latents(pipe, time=time, generator=own, guidance_scale=2.0)[0], image, atol=1e-4)
    parts = latents(pipe, time=[0.1, 0.2, 0.3], seed=7, guidance_scale=2.0, batch_size=2)
    assert torch.allclose(parts, images, atol=1e-4)


def test_a_seed_is_an_image_of_a_sampler_that_draws_noise_at_every_step(pipe):
    pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)
    whole = latents(pipe, time=[0.1, 0.2, 0.3], seed=[1, 2, 3])
    assert torch.allclose(latents(pipe, time=[0.1, 0.2, 0.3], seed=[1, 2, 3], batch_size=1), whole, atol=1e-4)


def test_images_per_prompt_lie_next_to_each_other_and_count_seeds_on(pipe):
    four = latents(pipe, time=[0.1, 0.2], seed=3, num_images_per_prompt=2)
    expected = [latents(pipe, time=time, seed=seed)[0] for time, seed in ((0.1, 3), (0.1, 4), (0.2, 3), (0.2, 4))]
    assert torch.allclose(four, torch.stack(expected), atol=1e-4)
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4, 3, 4)]
    again = latents(pipe, time=[0.1, 0.2], generator=generators, num_images_per_prompt=2)
    assert torch.allclose(again, four, atol=1e-5)


def test_given_latents_take_the_place_of_drawn_ones(pipe):
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7))
    assert torch.allclose(latents(pipe, latents=noise, time=[0.1]), latents(pipe, seed=7, time=[0.1]), atol=1e-5)


def test_a_sweep_is_a_grid_of_single_calls_that_encodes_what_is_shared_once(pipe):
    seen = {"images": 0, "prompts": [], "words": []}
    pipe.image_encoder.vision_model.register_forward_hook(lambda *_: seen.update(images=seen["images"] + 1))
    pipe.text_encoder.encoder.layers[0].mlp.register_forward_pre_hook(
        lambda _, args: seen["words" if args[0].ndim == 2 else "prompts"].append(len(args[0]))
    )
    arguments: dict[str, Any] = {"num_inference_steps": 2, "prompt": "a man", "guidance_scale": 1.5}
    grid = pipe.sweep(
        tiny_picture(),
        [-0.5, 0.0, 0.5],
        [0, 90],
        elevations=10,
        seed=4,
        batch_size=2,
        output_type="latent",
        **arguments,
    )
    assert [len(row) for row in grid] == [3, 3]
    assert seen["images"] == 2  # the image and the null image
    assert sum(seen["prompts"]) == 2  # the prompt and the negative prompt
    assert seen["words"] == [2 * 3 * 4] * 3  # samples x branches x words of each batch, once for all steps and layers
    for i, azimuth in enumerate([0, 90]):
        for j, time in enumerate([-0.5, 0.0, 0.5]):
            one = latents(pipe, time=time, azimuth=azimuth, elevation=10, seed=4, **arguments)[0]
            assert torch.allclose(grid[i][j], one, atol=1e-4)


def test_a_sweep_of_times_alone_is_one_row_of_pictures_of_one_noise(pipe):
    (row,) = pipe.sweep(tiny_picture(), [0.1, 0.2], generator=torch.Generator().manual_seed(1), num_inference_steps=2)
    assert [image.size for image in row] == [(32, 32)] * 2
    (same,) = pipe.sweep(tiny_picture(), [0.1, 0.1], num_inference_steps=2, batch_size=1, output_type="np")
    assert np.allclose(*same)
    with pytest.raises(InputError, match="times: expected one at least"):
        pipe.sweep(tiny_picture(), [])
    with pytest.raises(InputError, match="num_images_per_prompt: expected none for a sweep"):
        pipe.sweep(tiny_picture(), [0.1], num_images_per_prompt=2)


def test_seconds_are_a_share_of_the_scene_or_of_the_adapters_own_span(pipe, tiny_base, tmp_path):
    expected = latents(pipe, time=[-0.25, None], seed=0)
    assert torch.equal(latents(pipe, seconds=[-0.5, None], duration_s=2.0, seed=0), expected)
    for wrong, message in (
        ({"seconds": 0.5}, "seconds: expected duration_s beside it"),
        ({"seconds": 3, "duration_s": 2}, "seconds: expected at most the scene's 2 s either way, got 3"),
        ({"seconds": 1, "duration_s": 0}, "duration_s: expected more than 0 seconds"),
        ({"seconds": 1, "duration_s": 2, "time": 0.1}, "seconds: expected no time beside it"),
    ):
        with pytest.raises(InputError, match=message):
            latents(pipe, **wrong)
    own = FourDistillPipeline.from_pretrained(tiny_base, build_tiny_adapter(tiny_base, tmp_path, max_gap_s=4.0))
    own.set_progress_bar_config(disable=True)
    assert torch.equal(latents(own, seconds=1.0, seed=0), latents(own, time=0.25, seed=0))


def test_guidance_leads_away_from_the_negative_prompt(pipe):
    kwargs: dict[str, Any] = {"num_inference_steps": 1, "time": 0.3, "seed": 0, "prompt_strength": 0}
    wanted = latents(pipe, prompt="a man", **kwargs)
    unwanted = latents(pipe, prompt="a woman", **kwargs)
    guided = latents(pipe, prompt="a man", negative_prompt="a woman", text_guidance=2.5, **kwargs)
    assert torch.allclose(guided, unwanted + 2.5 * (wanted - unwanted), atol=1e-4)
    with pytest.raises(InputError, match="negative_prompt: expected a guidance_scale"):
        latents(pipe, negative_prompt="a woman")


def test_callbacks_see_and_change_every_step(pipe):
    seen = []

    def note(given, step, timestep, tensors):
        seen.append((step, int(timestep), sorted(tensors)))
        assert given is pipe
        return {"latents": torch.zeros_like(tensors["latents"])}

    names = ["latents", "noise_pred", "prompt_embeds"]
    out = latents(
        pipe, time=[0.1, 0.2], batch_size=1, callback_on_step_end=note, callback_on_step_end_tensor_inputs=names
    )
    assert (out == 0).all()
    timesteps = pipe.scheduler.timesteps.tolist()
    assert seen == [(i, t, names) for i, t in enumerate(timesteps * 2)] and pipe.num_timesteps == 6
    with pytest.raises(InputError, match=r"callback_on_step_end_tensor_inputs: .* got 'secret'"):
        latents(pipe, callback_on_step_end=note, callback_on_step_end_tensor_inputs=["secret"])


def test_a_callback_can_change_the_prompt_and_interrupt(pipe):
    def change(_, __, ___, tensors):
        return {"prompt_embeds": tensors["prompt_embeds"] + 1}

    asked = {"callback_on_step_end": change, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    assert not torch.allclose(latents(pipe, seed=0, **asked), latents(pipe, seed=0), atol=1e-3)

    def stop(given, step, _, tensors):
        given._interrupt = step == 1
        return tensors

    steps = []
    pipe.unet.register_forward_pre_hook(lambda *_: steps.append(1))
    latents(pipe, num_inference_steps=10, time=[0.1, 0.2], batch_size=1, callback_on_step_end=stop)
    assert len(steps) == 2
    latents(pipe)  # the next call runs again
    assert len(steps) == 5


def test_every_output_type_shows_the_same(pipe):
    kwargs: dict[str, Any] = {
        "image": tiny_picture(),
        "time": [0.1, 0.2],
        "num_inference_steps": 2,
        "seed": 0,
        "batch_size": 1,
    }
    array = pipe(**kwargs, output_type="np").images
    assert array.shape == (2, 32, 32, 3)
    assert np.allclose(pipe(**kwargs, output_type="pt").images.permute(0, 2, 3, 1), array, atol=1e-6)
    assert np.abs(np.asarray(pipe(**kwargs).images[1]) / 255 - array[1]).max() < 0.01
    (images,) = pipe(**kwargs, return_dict=False)
    assert [image.size for image in images] == [(32, 32)] * 2


def test_offloading_brings_every_part_in_before_it_runs(pipe):
    expected = latents(pipe, time=0.3, azimuth=10, seed=0)
    pipe.enable_model_cpu_offload(device="cpu")
    brought = set()
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module):
            hook: Any = part._hf_hook
            bring = hook.pre_forward
            hook.pre_forward = lambda module, *args, name=name, bring=bring, **kw: (
                brought.add(name), bring(module, *args, **kw)
            )[1]  # fmt: skip
    part_of = {
        "text_encoder": pipe.text_encoder.encoder.layers[0],
        "adapter": pipe.adapter.mapper.to_base,
        "unet": pipe.unet.conv_in,
    }
    for name, module in part_of.items():
        module.register_forward_pre_hook(lambda *_, name=name: None if name in brought else pytest.fail(name))
    assert torch.equal(latents(pipe, time=0.3, azimuth=10, seed=0), expected)
    assert brought == {"text_encoder", "image_encoder", "adapter", "unet"}


def test_half_precision_draws_the_noise_of_full_precision(pipe, tiny_base, adapter_folder):
    half = FourDistillPipeline.from_pretrained(tiny_base, adapter_folder, dtype=torch.bfloat16)
    half.set_progress_bar_config(disable=True)
    out = latents(half, time=0.3, seed=0, num_inference_steps=1)
    assert out.dtype == torch.bfloat16
    assert torch.allclose(out.float(), latents(pipe, time=0.3, seed=0, num_inference_steps=1), atol=0.1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"time": 1.5}, "time: expected a share of the scene from -1 to 1, got 1.5"),
        ({"time": float("nan")}, "time: expected a finite number"),
        ({"radius": 0}, "radius: expected a factor"),
        ({"image": "a.png"}, "image: expected a PIL image, or a list of them, got str"),
        ({"num_inference_steps": 0}, "num_inference_steps: expected a whole number from 1, got 0"),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt: expected a whole number from 1, got 0"),
        ({"batch_size": 0}, "batch_size: expected a whole number from 1, got 0"),
        ({"carrier": "smoke"}, "carrier: expected one of words, image_prompt, got 'smoke'"),
        ({"output_type": "jpeg"}, "output_type: expected one of pil, np, pt, latent, got 'jpeg'"),
        ({"guidance_rescale": 2}, "guidance_rescale: expected 0 to 1"),
        ({"prompt_strength": 1.1}, "prompt_strength: expected 0 to 1, got 1.1"),
        ({"lambda_": float("inf")}, "lambda_: expected a finite number"),
        ({"seed": -1}, "seed: expected whole numbers from 0"),
        ({"seed": 0, "generator": torch.Generator()}, "seed: expected no generator beside it"),
        ({"latents": torch.zeros(1, 4, 9, 9)}, r"latents: expected shape \(1, 4, 8, 8\), got \(1, 4, 9, 9\)"),
        ({"num_images_per_prompt": 3, "generator": [torch.Generator()] * 2}, "generator: expected 1 or 3 generators"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(pipe, wrong, message):
    with pytest.raises(InputError, match=message):
        latents(pipe, **wrong)


@pytest.fixture
def zero_snr(tiny_base, adapter_folder, tmp_path):
    """The tiny base with the noise schedule of Lin et al. (arXiv 2305.08891): it ends in noise alone."""
    base = shutil.copytree(tiny_base, tmp_path / "zero_snr")
    path = base / "scheduler/scheduler_config.json"
    changed = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "beta_schedule": "scaled_linear"}
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    pipe = FourDistillPipeline.from_pretrained(base, adapter_folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe, StableDiffusionPipeline.from_pretrained(base, safety_checker=None)


@pytest.mark.parametrize("name", [None, "ddim", "euler-discrete", "dpmsolvermultistep", "unipcmultistep"])
def test_a_schedule_that_ends_in_noise_alone_is_followed_to_its_end(zero_snr, name):
    pipe, stock = zero_snr
    if name is not None:
        pipe.set_scheduler(name)
        stock.scheduler = type(pipe.scheduler).from_config(stock.scheduler.config)
    stock.set_progress_bar_config(disable=True)
    given: dict[str, Any] = {"guidance_scale": 2.0, "num_inference_steps": 4, "output_type": "latent"}
    expected = stock("a man", generator=torch.Generator().manual_seed(0), **given).images
    own = pipe(prompt="a man", prompt_strength=0, seed=0, **given).images
    assert torch.allclose(own, expected, atol=1e-4 * float(expected.abs().max()))
    assert pipe.scheduler.timesteps[0] == 999 and pipe.scheduler.config.rescale_betas_zero_snr


def test_a_scheduler_that_cannot_follow_it_is_refused(zero_snr):
    with pytest.raises(
        InputError, match=r"scheduler: expected one of ddim, .* which have the base's rescale_betas_zero"
    ):
        zero_snr[0].set_scheduler("pndm")
