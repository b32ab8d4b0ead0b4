"""User mistakes in any command give one line and status 2, and leave no files."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_adapters import build_tiny_adapter, tiny_picture
from typer.testing import CliRunner

from fourdistill.cli import app
from fourdistill.sources.formats import FORMATS
from fourdistill.storage.files import partial_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(tiny_base, tmp_path_factory):
    """A folder with an adapter, a picture, an IP-Adapter, a text file, an empty folder and a link to the base."""
    folder = tmp_path_factory.mktemp("place")
    build_tiny_adapter(tiny_base, folder / "adapter")
    tiny_picture().save(folder / "photo.png")
    (folder / "plus.safetensors").write_bytes((tiny_base / "ip_adapter/ip-adapter-plus_tiny.safetensors").read_bytes())
    (folder / "text").write_text("a text")
    (folder / "empty").mkdir()
    (folder / "base").symlink_to(tiny_base)
    return folder


def assert_one_line(place, words, message):
    """Run in `place`, which must not change."""
    before = sorted(place.rglob("*"))
    cwd = Path.cwd()
    os.chdir(place)
    try:
        result = CliRunner().invoke(app, words)
    finally:
        os.chdir(cwd)
    assert result.exit_code == 2, (result.output, result.exception)
    assert len(result.stderr.splitlines()) == 1, result.stderr
    line = result.stderr.strip()
    assert line.startswith(f"error: {message}"), line
    assert sorted(place.rglob("*")) == before


MODELS = ["--base", "base", "--adapter", "adapter"]
DRAW = ["generate", "--image", "photo.png", "--device", "cpu", "--steps", "1"]
LONG = "x" * 300


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--base", ""], "--base: expected a folder or a Hub id, found an empty name"),
        (["--adapter", " "], "--adapter: expected a folder or a Hub id, found an empty name"),
        (["--base", "empty"], "empty: model_index.json: expected a model in diffusers' layout, found an empty folder"),
        (["--base", "adapter"], "adapter: model_index.json: expected a model in diffusers' layout, found an adapter"),
        (["--base", "text"], "text: expected a model folder in diffusers' layout (Stable Diffusion 1.x, 2.x or XL)"),
        (["--base", LONG], LONG),
        (["--adapter", "empty"], "empty/config.json: expected an adapter's configuration, found an empty folder"),
        (["--adapter", "base"], "base/config.json: expected an adapter's configuration, found a pipeline of diffusers"),
        (["--adapter", "base/unet"], "base/unet/config.json: expected an adapter's configuration, found that of a"),
        (["--adapter", "plus.safetensors"], "plus.safetensors: expected an adapter's folder, found a file, an IP-Adap"),
        (["--adapter", "nope"], "nope: expected an adapter's folder, or owner/repo on the Hub, there is no such file"),
        (["--image-encoder", ""], "image_encoder: expected a CLIP image encoder's folder, found an empty name"),
        (["--image-encoder", "empty"], "empty: expected a CLIP image encoder's folder, found an empty folder"),
        (["--steps", "1001"], "num_inference_steps: expected at most 1000, as the base has, got 1001"),
        (["--guidance", "inf"], "all guidance: expected at least 0, and a finite number, got inf"),
        (["--azimuth", "1e300"], "--azimuth: expected degrees from -3600 to 3600, got 1e+300"),
        (["--radius", "1e300"], "--radius: expected a factor of the source's distance, up to 1000, got 1e+300"),
        (["--seed", str(2**70)], "seed: expected whole numbers from 0"),
        (["--duration-s", "3"], "--duration-s: expected --seconds beside it"),
        (["--out", "a.gif", "--fps", "60"], "fps: expected at most 50 frames a second for a GIF"),
        (["--out", "a.mp4", "--fps", "nan"], "fps: expected 0.1 to 100 frames a second, found nan"),
        (["--out", f"{LONG}.png"], f"{LONG}.png: "),
        (["--out", "text/a.png"], "text/a.png: expected a file in an existing folder"),
    ],
)  # fmt: skip
def test_generate(place, options, message):
    assert_one_line(place, [*DRAW, *MODELS, "--out", "out.png", *options], message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["import", "none.bin", "--out", "a.safetensors"], "none.bin: expected a file of weights, there is no such"),
        (["import", "empty", "--out", "a.safetensors"], "empty: expected a file of weights, found a folder"),
        (["import", "text", "--out", "a.safetensors"], "text: expected an IP-Adapter checkpoint that ends in"),
        (["import", "plus.safetensors", "--out", "no/a.safetensors"], "--out: expected a file in an existing folder"),
        (["import", "plus.safetensors", "--out", "text/a"], "--out: expected a folder to write to, found"),
        (["import", "plus.safetensors", "--out", "text"], "--out: expected a new or empty folder, or that of an adapt"),
        (["import", "plus.safetensors", "--out", "a", "--base", "empty"], "empty: model_index.json: expected"),
        (["export", "--format", "ip-adapter", "--out", "a.bin"], "a.bin: expected a name that ends in .safetensors"),
        (["export", "--format", "ip-adapter", "--out", "no/a.safetensors"], "--out: expected a file in an existing"),
        (["export", "--format", "pipeline", "--out", "text"], "text: expected a new or empty folder"),
        (["export", "--format", "pipeline", "--out", "text/a"], "--out: expected a folder to write to, found"),
        (["push-shards", "empty", "memory://shards"], "empty/index.json: expected the index of write_shards, found"),
        (["inspect", "text"], "text: expected a folder of raw data, found none"),
        (["inspect", "empty", "--figure", "no/a.png"], "--figure: expected a file in an existing folder"),
        (["fetch", ""], "NAME: expected one of "),
        (["demo", "--host", "256.1.1.1"], "--host: expected a name or address of this machine, found '256.1.1.1'"),
        (["demo", "--base", "", "--port", "18097"], "--base: expected a folder or a Hub id, found an empty name"),
    ],
)  # fmt: skip
def test_the_other_commands(place, words, message):
    assert_one_line(place, words, message)


def test_what_the_machine_refuses_is_one_line(place, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert_one_line(place, [*DRAW, *MODELS, "--out", "out.png"], "out.png: expected a folder that can be written to")
    whole = ["export", *MODELS, "--format", "pipeline", "--out", "new/whole"]
    assert_one_line(place, whole, "--out: expected a folder that can be written to")


@pytest.mark.parametrize("out", ["out.png", "out.gif", "out.mp4"])
def test_a_full_disk_is_one_line(place, out, monkeypatch):
    def on_a_full_disk(path):
        partial = partial_of(path)
        partial.symlink_to("/dev/full")
        return partial

    monkeypatch.setattr("fourdistill.storage.files.partial_of", on_a_full_disk)
    assert_one_line(place, [*DRAW, *MODELS, "--out", out], f"{out}: No space left on device")


def test_a_fault_of_the_program_stays_a_traceback(place, monkeypatch):
    def fault(*_, **__):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "ours")

    monkeypatch.setattr("fourdistill.media.check_output", fault)
    result = CliRunner().invoke(app, [*DRAW, *MODELS, "--out", "out.png"])
    assert result.exit_code == 1 and isinstance(result.exception, FileNotFoundError)


def test_help_names_every_format():
    result = CliRunner().invoke(app, ["inspect", "--help"], env={"COLUMNS": "300"})
    assert ", ".join(sorted(FORMATS)) in result.stdout


def test_help_imports_no_reader():
    """Which take as long as all of the command line."""
    code = "import sys, fourdistill.cli; sys.exit(any(name in sys.modules for name in ('av', 'PIL', 'pydantic')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_bad_arguments_do_not_wait_for_torch(tmp_path):
    """Nor does the help of a command wait for slow imports."""
    code = "import sys; from fourdistill.cli import app\ntry: app(sys.argv[1:])\nexcept SystemExit: pass\n"
    code += "sys.exit(any(name in sys.modules for name in ('torch', 'diffusers', 'matplotlib', 'aiohttp', 'gradio')))"
    for words in (["inspect", "--help"], [*DRAW[:2], str(tmp_path / "none.png"), "--out", str(tmp_path / "a.png")]):
        done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
