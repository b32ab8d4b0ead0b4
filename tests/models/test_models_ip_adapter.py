"""IP-Adapter checkpoints of all kinds and layouts: Plus is read, other kinds are identified by their weights."""

import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from fourdistill.errors import InputError
from fourdistill.ip_adapter_files import convert_ip_adapter, import_ip_adapter
from fourdistill.models.base.checkpoint_kinds import describe
from fourdistill.models.base.ip_adapter import nested, read_ip_adapter
from fourdistill.models.base.model import load_base

WIDTH = 32


@pytest.fixture(scope="module")
def plus(tiny_base):
    return load_file(tiny_base / "ip_adapter/ip-adapter-plus_tiny.safetensors")


def of(kind, weights):
    return {f"{kind}.{name}": value for name, value in weights.items()}


def layers(plus):
    return {name: value for name, value in plus.items() if name.startswith("ip_adapter.")}


def write(path, weights):
    if path.suffix.lower() == ".safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path)
    return path


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("suffix", [".SAFETENSORS", ".bin", ".BIN", ".pt", ".pth", ".Ckpt"])
def test_every_ending_is_read(plus, tmp_path, suffix):
    content = plus if suffix == ".SAFETENSORS" else nested(plus)
    assert_same(read_ip_adapter(write(tmp_path / f"plus{suffix}", content)), plus)


def as_training_leaves_it(plus):
    ours = {"image_proj.": "image_proj_model.", "ip_adapter.": "adapter_modules."}
    renamed = {ours[k.split(".")[0] + "."] + k.split(".", 1)[1]: v for k, v in plus.items()}
    return renamed | {"unet.conv_in.weight": torch.zeros(1)}


def as_diffusers_names_it(plus):
    named = {}
    for name, value in plus.items():
        if ".to_kv." in name:
            key = name.replace(".0.to_kv.", ".attn.to_k.")
            named |= dict(zip((key, key.replace("to_k", "to_v")), (v.clone() for v in value.chunk(2)), strict=True))
            continue
        for theirs, original in ((".0.norm1.", ".ln0."), (".0.norm2.", ".ln1."), (".0.to_q.", ".attn.to_q."),
                                 (".0.to_out.", ".attn.to_out.0."), (".1.0.", ".ff.0."),
                                 (".1.1.", ".ff.1.net.0.proj."), (".1.3.", ".ff.1.net.2.")):  # fmt: skip
            name = name.replace(theirs, original) if name.startswith("image_proj.") else name
        named[name] = value
    return named


@pytest.mark.parametrize("layout", [as_training_leaves_it, as_diffusers_names_it, nested])
def test_every_layout_is_read(plus, tmp_path, layout):
    assert_same(read_ip_adapter(write(tmp_path / "plus.bin", layout(plus))), plus)
    old = tmp_path / "old.bin"
    torch.save(layout(plus), old, _use_new_zipfile_serialization=False)
    assert_same(read_ip_adapter(old), plus)


TWO_LAYERS = {"proj.0.weight": (64, 512), "proj.0.bias": (64,), "proj.2.weight": (4 * WIDTH, 64)}
PROJECTORS = {
    "an IP-Adapter of the kind full-face": {"proj.0.weight": (WIDTH, WIDTH), "proj.3.weight": (WIDTH,)},
    "an IP-Adapter FaceID": TWO_LAYERS | {"norm.weight": (WIDTH,)},
    "an IP-Adapter FaceID Plus": TWO_LAYERS | {"perceiver_resampler.proj_in.weight": (64, WIDTH)},
    "an IP-Adapter on the embeddings of faces (InstantID)": {"latents": (1, 16, 64), "proj_in.weight": (64, 512)},
}


@pytest.mark.parametrize("kind", PROJECTORS)
def test_other_ip_adapters_are_named_by_their_projector(plus, tmp_path, kind):
    projector = {name: torch.zeros(shape) for name, shape in PROJECTORS[kind].items()}
    path = write(tmp_path / "theirs.bin", nested(of("image_proj", projector) | layers(plus)))
    with pytest.raises(InputError) as caught:
        read_ip_adapter(path)
    expected = "expected an IP-Adapter, original or Plus, found"
    assert str(caught.value) == f"{path}: {expected} {kind} for cross-attention of {WIDTH}"


def test_low_rank_updates_and_named_layers_are_refused(plus, tmp_path):
    lora = plus | {"ip_adapter.1.to_q_lora.down.weight": torch.zeros(8, WIDTH)}
    with pytest.raises(InputError, match="found an IP-Adapter Plus with a LoRA for cross-attention of 32"):
        read_ip_adapter(write(tmp_path / "lora.bin", nested(lora)))
    named = {k.replace("ip_adapter.", "ip_adapter.down_blocks.0."): v for k, v in plus.items()}
    with pytest.raises(InputError, match=r"down_blocks\.0.*: expected ip_adapter\.1\.to_k_ip\.weight and the like"):
        read_ip_adapter(write(tmp_path / "named.bin", nested(named)))


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["lora_unet_down_blocks_0.lora_down.weight"], "a LoRA"),
        (["unet.down_blocks.0.attn1.to_q.lora_A.weight"], "a LoRA"),
        (["controlnet_cond_embedding.conv_in.weight", "time_embedding.linear_1.weight"], "a ControlNet"),
        (["model.diffusion_model.out.0.bias", "first_stage_model.x"], "a whole Stable Diffusion checkpoint"),
        (["conditioner.embedders.0.x", "first_stage_model.x"], "a whole SDXL checkpoint"),
        (["down_blocks.0.attentions.0.proj_in.weight", "conv_in.weight"], "a U-Net"),
        (["encoder.mid_block.x", "quant_conv.weight"], "a VAE"),
        (["text_model.embeddings.x"], "a CLIP text encoder"),
        (["vision_model.embeddings.x", "text_model.x"], "a CLIP image encoder"),
        (["double_blocks.0.processor.ip_adapter_double_stream_k_proj.weight"], "an IP-Adapter for Flux"),
        (["down_blocks.0.motion_modules.0.x"], "a motion module"),
        (["mapper.word", "prior.x", "image_prompt.projector.x"], "an adapter of fourdistill"),
        (["mystery"], "other weights (mystery ...)"),
    ],
)
def test_other_checkpoints_are_named(tmp_path, names, kind):
    path = write(tmp_path / "theirs.safetensors", {name: torch.zeros(3) for name in names})
    with pytest.raises(InputError) as caught:
        convert_ip_adapter(path, tmp_path / "out.safetensors")
    assert str(caught.value).startswith(f"{path}: expected an IP-Adapter, original or Plus, found {kind}")
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.safetensors"]


def test_a_textual_inversion_is_told_by_its_shape():
    assert describe({"<cat>": (768,)}) == "a textual inversion" == describe({"emb_params": (4, 768)})
    assert describe({"x": (3,)}) == "other weights (x ...)" and describe({}) == "no weights at all"


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('it ran')",)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.bin", b"", "found an empty file"),
        ("a.safetensors", b"", "found an empty file"),
        ("a.bin", b"version https://git-lfs.github.com/spec/v1\n", "found a pointer of Git LFS"),
        ("a.safetensors", b"<html>not found</html>", "found a web page"),
        ("a.pt", b"\n <!DOCTYPE html>", "found a web page"),
        ("a.safetensors", b"PK\x03\x04" + bytes(40), "found pickled weights"),
        ("a.bin", (8).to_bytes(8, "little") + b'{      }', "let its name end in .safetensors"),
        ("a.safetensors", (99).to_bytes(8, "little") + b'{"x"', "found a truncated or damaged file"),
        ("a.bin", b"PK\x03\x04" + bytes(40), "found a truncated file, or one that is not torch.save's"),
        ("a.bin", pickle.dumps({"image_proj": {}}, 4), "found a truncated file, or one that is not torch.save's"),
        ("a.bin", Evil(), "found exec in it, which is not run"),
        ("a.bin", [1, 2], "expected weights by name, found a list"),
        ("a.bin", {"image_proj": {"latents": 3}}, "image_proj.latents: expected weights, found a int"),
        ("a.txt", b"hello", "that ends in .safetensors, .bin, .ckpt, .pt, .pth"),
    ],
)  # fmt: skip
def test_files_that_are_no_checkpoint_are_named(tmp_path, recwarn, name, content, words):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(InputError) as caught:
        read_ip_adapter(path)
    assert str(caught.value).startswith(f"{path}: ") and words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1 and not recwarn.list


def test_folders_and_missing_files_are_named(tiny_base, tmp_path):
    for ip_adapter, words in (
        (tmp_path, "expected an IP-Adapter checkpoint, found a folder"),
        (tmp_path / "none.bin", "expected an IP-Adapter checkpoint, there is no such file"),
    ):
        with pytest.raises(InputError, match=f"^{ip_adapter}: {words}"):
            load_base(str(tiny_base), str(ip_adapter))


def for_sdxl(plus):
    out = {
        "proj_out.weight": (2048, 64),
        "proj_out.bias": (2048,),
        "norm_out.weight": (2048,),
        "norm_out.bias": (2048,),
    }
    projector = {f"image_proj.{name}": torch.zeros(shape) for name, shape in out.items()}
    return plus | projector | {name: torch.zeros(len(value), 2048) for name, value in layers(plus).items()}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: {k: v for k, v in p.items() if ".1." not in k or "proj" in k},
         "ip_adapter.1.to_k_ip.weight: expected [32, 32], found none"),
        (lambda p: p | {"ip_adapter.99.to_k_ip.weight": torch.zeros(64, 32)},
         "ip_adapter.99.to_k_ip.weight: expected none, found [64, 32]"),
        (for_sdxl, "expected [32, 32], found [32, 2048]: it is an IP-Adapter Plus for cross-attention of 2048 (SDXL"),
        (lambda p: p | {"image_proj.proj_in.weight": torch.zeros(64, 1280)}, "image encoder is 32 wide, found one for"),
        (lambda p: {k: v for k, v in p.items() if "layers.3" not in k}, "image_proj.layers.3.0.norm1.bias: expected"),
        (lambda p: {k: v for k, v in p.items() if "proj_out" not in k}, "found a part of one"),
    ],
)  # fmt: skip
def test_a_plus_that_does_not_fit_says_which_number_differs(tiny_base, plus, tmp_path, make, words):
    path = write(tmp_path / "plus.safetensors", make(plus))
    with pytest.raises(InputError) as caught:
        import_ip_adapter(path, str(tiny_base), None, 0)
    assert str(caught.value).startswith(f"{path}: ") and words in str(caught.value)


def test_training_takes_a_pickled_checkpoint_and_the_encoder_beside_it(tiny_base, plus, tmp_path):
    expected = load_base(str(tiny_base)).ip_adapter
    found = load_base(str(tiny_base), str(write(tmp_path / "plus.bin", nested(plus)))).ip_adapter
    assert expected is not None and found is not None
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(found.to_k_ip, expected.to_k_ip, strict=True))
    bare = shutil.copytree(tiny_base, tmp_path / "bare")
    index = json.loads((bare / "model_index.json").read_text())
    (bare / "model_index.json").write_text(json.dumps(index | {"image_encoder": [None, None]}))
    shutil.move(bare / "image_encoder", tmp_path / "image_encoder")
    assert load_base(str(bare), str(tmp_path / "plus.bin")).image_encoder is not None
