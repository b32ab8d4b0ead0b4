"""IP-Adapter checkpoints: stock diffusers loads exported ones, and checkpoints for it can be imported."""

import json
import pickle
import resource
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file
from tiny_adapters import build_tiny_adapter, tiny_picture
from tiny_models import build_tiny_base
from typer.testing import CliRunner

from fourdistill import FourDistillPipeline
from fourdistill.cli import app
from fourdistill.errors import InputError
from fourdistill.models.folder import save_model


@pytest.fixture(scope="module")
def adapter_folder(tiny_base, tmp_path_factory):
    return build_tiny_adapter(tiny_base, tmp_path_factory.mktemp("adapter"))


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def stock_latents(base, checkpoint):
    pipe: Any = StableDiffusionPipeline.from_pretrained(base, safety_checker=None)
    pipe.load_ip_adapter(str(checkpoint.parent), subfolder="", weight_name=checkpoint.name)
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        "a man", ip_adapter_image=tiny_picture(), guidance_scale=1, num_inference_steps=3, output_type="latent",
        generator=torch.Generator().manual_seed(0),
    ).images  # fmt: skip


def own_latents(base, adapter, **arguments) -> Any:
    pipe = FourDistillPipeline.from_pretrained(base, adapter)
    pipe.set_progress_bar_config(disable=True)
    return pipe(tiny_picture(), "a man", seed=0, num_inference_steps=3, output_type="latent", **arguments).images


def shown_latents(base, adapter) -> Any:
    """Latents generated from the image prompt, without guidance."""
    has_prior = json.loads((adapter / "config.json").read_text())["prior"] is not None
    return own_latents(base, adapter, carrier="image_prompt" if has_prior else "words", prompt_strength=0)


def as_bin(checkpoint, path):
    """The checkpoint in the original's pickled format."""
    nested: dict[str, dict] = {"image_proj": {}, "ip_adapter": {}}
    for name, value in load_file(checkpoint).items():
        part, _, rest = name.partition(".")
        nested[part][rest] = value
    torch.save(nested, path)
    return path


def test_stock_diffusers_draws_the_same_with_an_exported_adapter(tiny_base, adapter_folder, tmp_path):
    out = tmp_path / "mine.safetensors"
    result = run("export", "--format", "ip-adapter", "--base", tiny_base, "--adapter", adapter_folder, "--out", out)
    assert result.exit_code == 0 and "without mapper, displacement prior" in result.stdout, result.output
    exported = stock_latents(tiny_base, out)
    assert torch.allclose(exported, shown_latents(tiny_base, adapter_folder), atol=1e-4)
    own = tiny_base / "ip_adapter" / "ip-adapter-plus_tiny.safetensors"
    assert not torch.allclose(exported, stock_latents(tiny_base, own), atol=1e-2)


def test_an_exported_pipeline_is_complete(tiny_base, adapter_folder, tmp_path):
    options = ("--base", tiny_base, "--adapter", adapter_folder)
    assert run("export", "--format", "pipeline", *options, "--out", tmp_path / "pipeline").exit_code == 0
    expected = own_latents(tiny_base, adapter_folder, time=0.3)
    assert torch.allclose(own_latents(tmp_path / "pipeline", None, time=0.3), expected, atol=1e-5)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    result = run("export", "--format", "pipeline", *options, "--out", tmp_path / "mine")
    assert result.exit_code == 2 and "mine: expected a new or empty folder" in result.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_pickled_checkpoint_becomes_a_file_for_training(tiny_base, tmp_path):
    own = tiny_base / "ip_adapter" / "ip-adapter-plus_tiny.safetensors"
    out = tmp_path / "taken.safetensors"
    assert run("import", as_bin(own, tmp_path / "theirs.bin"), "--out", out).exit_code == 0
    taken, expected = load_file(out), load_file(own)
    assert taken.keys() == expected.keys() and all(torch.equal(taken[name], expected[name]) for name in taken)


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_an_imported_adapter_draws_as_stock_diffusers_with_the_checkpoint(tiny_base, adapter_folder, tmp_path, suffix):
    checkpoint = tmp_path / "theirs.safetensors"
    options = ("--base", tiny_base, "--adapter", adapter_folder)
    run("export", "--format", "ip-adapter", *options, "--out", checkpoint)
    expected = stock_latents(tiny_base, checkpoint)
    theirs = as_bin(checkpoint, tmp_path / "theirs.bin") if suffix == ".bin" else checkpoint
    for name, others in (("new", ()), ("mine", ("--adapter", adapter_folder))):
        result = run("import", theirs, "--base", tiny_base, *others, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
        assert torch.allclose(shown_latents(tiny_base, tmp_path / name), expected, atol=1e-4)
    mine, given = load_file(tmp_path / "mine/adapter.safetensors"), load_file(adapter_folder / "adapter.safetensors")
    taken = [name for name in given if name.startswith("prior.")]
    assert taken and all(torch.equal(mine[name], given[name]) for name in taken)
    assert not torch.equal(mine["mapper.to_key.0.weight"], given["mapper.to_key.0.weight"])  # of another image prompt
    moved = [own_latents(tiny_base, tmp_path / "new", time=time) for time in (None, 0.3)]
    assert not torch.allclose(*moved, atol=1e-4)  # its new mapper uses displacements, although it is untrained
    assert theirs.exists()


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('it ran')",)


def test_bad_checkpoints_are_one_line_and_status_2(tiny_base, tmp_path):
    own = tiny_base / "ip_adapter" / "ip-adapter-plus_tiny.safetensors"
    (tmp_path / "evil.bin").write_bytes(pickle.dumps({"image_proj": Evil(), "ip_adapter": {}}))
    torch.save({"image_proj": Evil(), "ip_adapter": {}}, tmp_path / "evil_torch.bin")
    torch.save([1, 2], tmp_path / "list.bin")
    torch.save({"image_proj": {"latents": 3}, "ip_adapter": {"1.x": 2}}, tmp_path / "numbers.bin")
    torch.save({"image_proj": {"latents": torch.zeros(1)}, "ip_adapter": {}}, tmp_path / "half.bin")
    (tmp_path / "cut.safetensors").write_bytes(own.read_bytes()[:1000])
    (tmp_path / "empty.bin").write_bytes(b"")
    (tmp_path / "weights.pt").write_bytes(own.read_bytes())
    for name in (
        "evil.bin", "evil_torch.bin", "list.bin", "numbers.bin", "half.bin", "cut.safetensors", "empty.bin",
        "weights.pt", "none.bin",
    ):  # fmt: skip
        for out in (tmp_path / "out.safetensors", tmp_path / "out"):
            result = run("import", tmp_path / name, "--base", tiny_base, "--out", out)
            lines = result.stderr.strip().splitlines()
            assert result.exit_code == 2 and len(lines) == 1 and name in lines[0], (name, result.output)
            assert not out.exists()


@contextmanager
def files_up_to(num_bytes):
    """Make the system refuse writes beyond `num_bytes`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_cannot_be_written_has_the_name_that_was_given(tiny_base, adapter_folder, tmp_path):
    own, out = tiny_base / "ip_adapter" / "ip-adapter-plus_tiny.safetensors", tmp_path / "out.safetensors"
    export = ("export", "--format", "ip-adapter", "--base", tiny_base, "--adapter", adapter_folder)
    for words in (("import", own), export):
        with files_up_to(4096):
            result = run(*words, "--out", out)
        assert result.exit_code == 2 and result.stderr.startswith(f"error: {out}: expected a place"), result.output
    with files_up_to(4096), pytest.raises(InputError, match=f"^{tmp_path}/model.safetensors: expected a place"):
        save_model(tmp_path, torch.nn.Linear(64, 64), "model.safetensors", {})


def test_a_checkpoint_for_another_base_says_which_number_differs(tiny_base, tmp_path):
    other = build_tiny_base(tmp_path / "other", blocks=(32, 96))
    own = tiny_base / "ip_adapter" / "ip-adapter-plus_tiny.safetensors"
    result = run("import", own, "--base", other, "--out", tmp_path / "out")
    assert result.exit_code == 2 and "expected an IP-Adapter Plus" in result.stderr
    assert "[64, 32]" in result.stderr and "[96, 32]" in result.stderr
