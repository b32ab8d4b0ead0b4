"""Real-world bases: variants, other kinds, incomplete ones; they are identified before anything is loaded."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from huggingface_hub.errors import OfflineModeIsEnabled
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPVisionModelWithProjection

from fourdistill.errors import InputError
from fourdistill.models.base.folder import check_base_folder
from fourdistill.models.base.model import load_base

MODELS = {
    "unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel,
    "image_encoder": CLIPVisionModelWithProjection,
}  # fmt: skip


@pytest.fixture
def base(tiny_base, tmp_path) -> Path:
    return shutil.copytree(tiny_base, tmp_path / "base")


def weights_of(base, part) -> Path:
    [path] = (base / part).glob("*.safetensors")
    return path


def rename(base, part, variant):
    path = weights_of(base, part)
    path.rename(path.with_name(f"{path.stem}.{variant}.safetensors"))


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refuse(base, *words, **options):
    """Loading must fail with one line that contains all `words`."""
    with pytest.raises(InputError) as caught:
        load_base(str(base), with_ip_adapter=False, **options)
    text = str(caught.value)
    assert text.startswith(str(base)) and "\n" not in text
    for word in words:
        assert word in text, text


def test_a_variant_alone_is_found_part_by_part(base, tiny_base, capfd):
    expected = load_base(str(tiny_base))
    for part, variant in (("unet", "fp16"), ("vae", "fp16"), ("text_encoder", "bf16")):
        rename(base, part, variant)
    (base / "unet" / "LICENSE").write_text("a name without a dot")
    for named in (None, "fp16"):
        found = load_base(str(base), variant=named)
        for part in ("unet", "vae", "text_encoder", "image_encoder"):
            pairs = zip(getattr(found, part).parameters(), getattr(expected, part).parameters(), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs)
    assert capfd.readouterr().err == ""
    refuse(base, "variant: expected one that the base has, found 'non_ema'", variant="non_ema")


def test_half_precision_is_loaded_in_single(base):
    path = weights_of(base, "unet")
    save_file({name: value.half() for name, value in load_file(path).items()}, path, metadata={"format": "pt"})
    rename(base, "unet", "fp16")
    assert load_base(str(base), with_ip_adapter=False).unet.dtype == torch.float32


def test_a_named_variant_comes_before_the_plain_weights_and_they_before_others(base):
    plain = weights_of(base, "vae")
    shutil.copy(plain, plain.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert check_base_folder(base, "b", None)[1]["vae"] is None
    assert check_base_folder(base, "b", "fp16")[1] == {
        "image_encoder": None, "text_encoder": None, "unet": None, "vae": "fp16",
    }  # fmt: skip
    plain.rename(plain.with_name("diffusion_pytorch_model.bf16.safetensors"))
    refuse(base, "vae: expected `variant` to be one of bf16, fp16, found None")


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_variants_in_several_files_are_found(base, tiny_base, part):
    weights_of(base, part).unlink()
    MODELS[part].from_pretrained(tiny_base / part).save_pretrained(base / part, variant="fp16", max_shard_size="50KB")
    shards = sorted((base / part).glob("*fp16-*"))
    assert len(shards) > 1 and check_base_folder(base, "b", None)[1][part] == "fp16"
    found, expected = load_base(str(base), with_ip_adapter=False), load_base(str(tiny_base), with_ip_adapter=False)
    ours, theirs = (getattr(loaded, part).parameters() for loaded in (found, expected))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    shards[-1].unlink()
    refuse(base, f"{part}: expected ", f"found {len(shards) - 1} of {len(shards)} parts of it")


INDICES = {  # class of a pipeline => parts that are additional or of another class
    "StableDiffusionXLPipeline": {
        "tokenizer_2": None,
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    },
    "StableDiffusion3Pipeline": {"unet": None, "transformer": ["diffusers", "SD3Transformer2DModel"]},
    "FluxPipeline": {"unet": None, "transformer": ["diffusers", "FluxTransformer2DModel"]},
    "StableVideoDiffusionPipeline": {"unet": ["diffusers", "UNetSpatioTemporalConditionModel"]},
    "TextToVideoSDPipeline": {"unet": ["diffusers", "UNet3DConditionModel"]},
    "AnimateDiffPipeline": {"motion_adapter": ["diffusers", "MotionAdapter"]},
    "AltDiffusionPipeline": {"text_encoder": ["alt_diffusion", "RobertaSeriesModelWithTransformation"]},
    "IFPipeline": {"vae": None, "text_encoder": ["transformers", "T5EncoderModel"]},
    "KandinskyV22Pipeline": {"vae": None, "movq": ["diffusers", "VQModel"]},
}


@pytest.mark.parametrize("kind", INDICES)
def test_pipelines_of_other_kinds_are_refused_by_their_class(base, kind):
    parts = {name: value or [None, None] for name, value in INDICES[kind].items()}
    edit(base / "model_index.json", _class_name=kind, **parts)
    weights_of(base, "unet").unlink()  # the kind is checked first
    refuse(base, f"expected Stable Diffusion 1.x, 2.x or XL, found {kind}", next(iter(parts)))


@pytest.mark.parametrize(
    ("part", "values", "words"),
    [
        ("unet", {"in_channels": 9}, "unet: in_channels: expected 4"),  # inpainting
        ("unet", {"cross_attention_dim": 1024}, "unet: cross_attention_dim: expected 32"),
        ("unet", {"addition_embed_type": "text_time"}, "addition_embed_type: expected None"),
        ("unet", {"class_embed_type": "projection"}, "class_embed_type: expected None"),
        ("vae", {"latent_channels": 16}, "unet: in_channels: expected 16"),
        ("vae", {"latents_mean": [0.0]}, "vae: latents_mean: expected none"),  # Playground
    ],
)
def test_a_unet_that_takes_something_else_is_refused(base, part, values, words):
    edit(base / part / "config.json", **values)
    refuse(base, "expected Stable Diffusion 1.x, 2.x or XL, found StableDiffusionPipeline (", words)


def test_pipelines_of_the_same_parts_are_taken(base):
    edit(base / "model_index.json", _class_name="StableDiffusionImg2ImgPipeline")
    assert set(check_base_folder(base, "b", None)[1]) == set(MODELS)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (POINTER, "a pointer of Git LFS"),
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>404", "a web page"),
        (b"PK\x03\x04rest", "pickled weights"),
        (None, "a truncated or damaged file"),
    ],
)
def test_files_that_are_no_weights_are_named(base, content, words):
    path = weights_of(base, "unet")
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    refuse(base, f"unet/{path.name}: expected weights as safetensors, found {words}")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("diffusion_pytorch_model.bin", "diffusion_pytorch_model.bin alone, which is pickled"),
        ("diffusion_flax_model.msgpack", "found diffusion_flax_model.msgpack"),
        ("diffusion_pytorch_model.safetensors.incomplete", "a download that was broken off"),
        (None, "found no weights"),
    ],
)
def test_a_part_without_weights_says_what_is_there(base, name, words, capfd):
    path = weights_of(base, "unet")
    path.unlink() if name is None else path.rename(path.with_name(name))
    refuse(base, "unet: expected diffusion_pytorch_model.safetensors, ", words)
    assert capfd.readouterr().err == ""


def test_folders_that_are_no_pipeline_say_what_they_are(base, tmp_path):
    refuse(base / "unet", "found a UNet2DConditionModel alone")
    refuse(base / "text_encoder", "found a CLIPTextModel alone")
    refuse(base / "tokenizer", "model_index.json: expected a model")
    refuse(tmp_path, f"name {base}")
    (tmp_path / "empty").mkdir()
    refuse(tmp_path / "empty", "found an empty folder")
    (base / "controlnet").mkdir()
    (base / "controlnet/config.json").write_text('{"_class_name": "ControlNetModel"}')
    refuse(base / "controlnet", "found a ControlNetModel alone")
    (base / "model_index.json").write_bytes(POINTER)
    refuse(base, "model_index.json: expected a configuration in JSON")
    (base / "model_index.json").unlink()
    refuse(base, "without model_index.json: is the download complete?")


def test_a_checkpoint_in_one_file_says_what_it_is(base, tmp_path):
    refuse(weights_of(base, "unet"), "found a file, a U-Net")
    whole = {"model.diffusion_model.x": torch.zeros(1), "first_stage_model.x": torch.zeros(1)}
    save_file(whole, tmp_path / "v1-5.safetensors")
    refuse(tmp_path / "v1-5.safetensors", "config: expected a folder with the model_index", f"none in {tmp_path}")
    save_file(whole | {"conditioner.embedders.0.x": torch.zeros(1)}, tmp_path / "xl.safetensors")
    refuse(tmp_path / "xl.safetensors", "config: expected that of a whole SDXL", f"another in {base}", config=base)
    (tmp_path / "v1-5.ckpt").write_bytes(b"PK\x03\x04rest")
    refuse(tmp_path / "v1-5.ckpt", "or a whole one in one .safetensors, found a file, pickled weights")


def test_an_image_encoder_is_checked_as_a_base_is(base, tmp_path):
    encoder = shutil.copytree(base / "image_encoder", tmp_path / "encoder")
    edit(base / "model_index.json", image_encoder=[None, None])
    shutil.move(base / "image_encoder", tmp_path / "elsewhere")
    refuse(base, "image_encoder: expected a CLIP image encoder")
    shutil.move(tmp_path / "elsewhere", base / "image_encoder")
    assert load_base(str(base), with_ip_adapter=False).image_encoder is not None  # the index needn't name it
    rename(tmp_path, "encoder", "fp16")
    assert load_base(str(base), with_ip_adapter=False, image_encoder=str(encoder)).image_encoder is not None
    with pytest.raises(InputError, match="unet: expected a CLIP image encoder's folder, found a UNet2DConditionModel"):
        load_base(str(base), with_ip_adapter=False, image_encoder=str(base / "unet"))


class Hub:
    """A simulated Hub repository that records the fetched files."""

    def __init__(self, monkeypatch, folder, out, online):
        self.folder, self.out, self.online, self.fetched = folder, out, online, []
        monkeypatch.setattr("fourdistill.models.base.hub.snapshot_download", self.download)
        monkeypatch.setattr("fourdistill.models.base.hub.HfApi", lambda: self)

    def download(self, repo, allow_patterns, **options):
        assert repo == "someone/base" and options == {"revision": "v2"}
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder)
            if path.is_file() and any(name.match(pattern) for pattern in allow_patterns):
                (self.out / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, self.out / name)
                self.fetched.append(name.as_posix())
        return str(self.out)

    def list_repo_files(self, repo, revision, token):
        if not self.online:
            raise OfflineModeIsEnabled
        return [path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()]


def test_of_a_base_on_the_hub_only_what_is_loaded_is_fetched(base, tmp_path, monkeypatch):
    for part in MODELS:
        rename(base, part, "fp16")
        (base / part / "pytorch_model.bin").write_text("gigabytes")
    hub = Hub(monkeypatch, base, tmp_path / "cache", online=True)
    loaded = load_base("someone/base", with_ip_adapter=False, revision="v2")
    assert loaded.name == "someone/base"
    assert {name for name in hub.fetched if name.endswith((".safetensors", ".bin"))} == {
        weights_of(base, part).relative_to(base).as_posix() for part in MODELS
    }
    Hub(monkeypatch, base, tmp_path / "cache", online=False)  # then offline, from the cache
    assert load_base("someone/base", with_ip_adapter=False, revision="v2").unet is not None


def test_a_base_on_the_hub_is_refused_before_its_weights_are_fetched(base, tmp_path, monkeypatch):
    edit(base / "model_index.json", text_encoder_2=["transformers", "CLIPTextModel"], _class_name="StableDiffusionXL")
    hub = Hub(monkeypatch, base, tmp_path / "cache", online=True)
    with pytest.raises(InputError, match=r"^someone/base: expected Stable Diffusion 1\.x, 2\.x or XL, found Stable"):
        load_base("someone/base", with_ip_adapter=False, revision="v2")
    assert not [name for name in hub.fetched if name.endswith(".safetensors")]


@pytest.mark.parametrize(("owner", "revision"), [("someone/base", {"revision": "v2"}), ("someone/other", {})])
def test_an_ip_adapter_and_its_encoder_are_fetched_as_the_base_is(base, tmp_path, monkeypatch, owner, revision):
    asked = []

    def download(repo, allow_patterns, **options):
        asked.append((repo, options))
        return str(base)

    monkeypatch.setattr("fourdistill.models.base.hub.snapshot_download", download)
    local: dict[str, Any] = {"token": "secret", "cache_dir": tmp_path, "local_files_only": True}
    file = next((base / "ip_adapter").glob("*.safetensors")).relative_to(base)
    names: dict[str, Any] = {"ip_adapter": f"{owner}/{file}", "image_encoder": f"{owner}/image_encoder"}
    load_base("someone/base", **names, revision="v2", **local)
    of_base = ("someone/base", {"revision": "v2", **local})
    assert asked == [of_base] * 2 + [(owner, revision | local)] * 3


def test_sdxl_is_fetched_with_both_text_encoders(tiny_xl, tmp_path, monkeypatch):
    base = shutil.copytree(tiny_xl, tmp_path / "base")
    for part in (*MODELS, "text_encoder_2"):
        rename(base, part, "fp16")
        path = weights_of(base, part)
        save_file({name: value.half() for name, value in load_file(path).items()}, path, metadata={"format": "pt"})
        (base / part / "pytorch_model.bin").write_text("gigabytes")
    hub = Hub(monkeypatch, base, tmp_path / "cache", online=True)
    found, expected = load_base("someone/base", with_ip_adapter=False, revision="v2"), load_base(str(tiny_xl))
    assert len({name for name in hub.fetched if name.endswith((".safetensors", ".bin"))}) == 5
    assert found.tokenizer_2 is not None and found.zero_empty_prompt
    for mine, theirs in zip(found.models(), expected.models(), strict=True):
        pairs = zip(mine.parameters(), theirs.parameters(), strict=True)
        assert all(a.dtype == torch.float32 and torch.equal(a, b.half().float()) for a, b in pairs)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"addition_embed_type": None}, "unet: addition_embed_type: expected text_time"),
        ({"cross_attention_dim": 48}, "unet: cross_attention_dim: expected 80"),
        ({"projection_class_embeddings_input_dim": 80}, "unet: projection_class_embeddings_input_dim: expected 88"),
    ],
)
def test_sdxl_of_another_kind_is_refused(tiny_xl, tmp_path, values, words):
    base = shutil.copytree(tiny_xl, tmp_path / "base")
    edit(base / "unet" / "config.json", **values)
    refuse(base, "expected Stable Diffusion 1.x, 2.x or XL, found StableDiffusionXLPipeline (", words)
