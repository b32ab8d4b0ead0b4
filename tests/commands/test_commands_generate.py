import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from PIL import Image
from tiny_adapters import build_tiny_adapter, tiny_picture
from tiny_models import build_tiny_base
from typer.testing import CliRunner

from fourdistill import FourDistillPipeline, shipped
from fourdistill.cli import app

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def parts(tiny_base, tmp_path_factory):
    """Options for a tiny base, an adapter and a picture."""
    folder = tmp_path_factory.mktemp("parts")
    build_tiny_adapter(tiny_base, folder / "adapter")
    tiny_picture().save(folder / "photo.png")
    return {"--base": str(tiny_base), "--adapter": str(folder / "adapter"), "--image": str(folder / "photo.png")}


def run(*arguments, **options):
    words = [word for option, value in options.items() for word in (option, value)]
    return CliRunner().invoke(app, [*map(str, arguments), *words])


def generate(parts, out, *arguments, **changed):
    return run("generate", "--out", out, "--steps", 2, "--device", "cpu", *arguments, **(parts | changed))


def call(parts, **arguments):
    pipe = FourDistillPipeline.from_pretrained(parts["--base"], parts["--adapter"])
    pipe.set_progress_bar_config(disable=True)
    return pipe(tiny_picture(), num_inference_steps=2, **arguments).images


def assert_one_line(result, message):
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and message in lines[0], result.stderr


def test_one_picture_is_that_of_the_pipeline(parts, tmp_path):
    options = ("--time", -0.25, "--azimuth", 45, "--radius", 1.2, "--seed", 3, "--lambda", 0.5, "--guidance", 2)
    options += ("--noise-scale", 0.5)
    result = generate(parts, tmp_path / "out.png", *options, "--prompt", "a man", "--negative-prompt", "a woman")
    assert result.exit_code == 0 and result.stdout.strip() == str(tmp_path / "out.png")
    (expected,) = call(
        parts, time=-0.25, azimuth=45, radius=1.2, seed=3, lambda_=0.5, guidance_scale=2.0, prompt="a man",
        negative_prompt="a woman", noise_scale=0.5,
    )  # fmt: skip
    difference = np.asarray(Image.open(tmp_path / "out.png")).astype(int) - np.asarray(expected)
    assert np.abs(difference).max() <= 1


def test_the_strength_of_a_prompt_decides_what_is_not_given(parts, tmp_path):
    prompt, out = ("--prompt", "a man in a red top"), tmp_path / "out.png"
    drawn = {}
    for strength in (None, 1, 0.5, 0):
        given = () if strength is None else ("--prompt-strength", strength)
        assert generate(parts, out, *prompt, *given).exit_code == 0
        drawn[strength] = np.asarray(Image.open(out)).astype(int)
    assert np.array_equal(drawn[None], drawn[1])
    for strength in (0.5, 0):
        assert not np.array_equal(drawn[strength], drawn[1])
        (expected,) = call(parts, prompt="a man in a red top", prompt_strength=strength, seed=0)
        assert np.abs(drawn[strength] - np.asarray(expected)).max() <= 1
    assert generate(parts, out, *prompt, "--text-guidance", 1, "--lambda", 3).exit_code == 0
    assert np.array_equal(np.asarray(Image.open(out)), drawn[0])  # the adapter's own lambda, no guidance


def test_each_time_with_each_camera_makes_a_grid(parts, tmp_path):
    result = generate(
        parts, tmp_path / "grid.png", "--time", "-0.5:0.5:3", "--azimuth", "0,90", "--json", "--batch-size", 4
    )
    facts = json.loads(result.stdout)
    assert (facts["rows"], facts["columns"], facts["seed"]) == (2, 3, 0)
    assert [(shown["azimuth"], shown["time"]) for shown in facts["pictures"]] == [
        (azimuth, time) for azimuth in (0, 90) for time in (-0.5, 0, 0.5)
    ]
    grid = Image.open(tmp_path / "grid.png")
    assert grid.size == (96, 64)
    (cell,) = call(parts, time=0.5, azimuth=0, seed=0)
    assert np.abs(np.asarray(grid.crop((64, 0, 96, 32))).astype(int) - np.asarray(cell)).max() <= 1


def test_animations_run_through_the_times(parts, tmp_path):
    for name in ("sweep.gif", "sweep.mp4"):
        assert generate(parts, tmp_path / name, "--seconds", "-1:1:4", "--duration-s", 2, "--fps", 5).exit_code == 0
    gif: Any = Image.open(tmp_path / "sweep.gif")
    assert (gif.n_frames, gif.size, gif.info["duration"]) == (4, (32, 32), 200)
    with av.open(tmp_path / "sweep.mp4", "r") as film:
        assert len(list(cast(Any, film).decode(video=0))) == 4 and film.streams.video[0].average_rate == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sweep.gif", "sweep.mp4"]


def test_pairwise_takes_each_time_with_one_camera(parts, tmp_path):
    result = generate(parts, tmp_path / "path.png", "--time", "0:0.5:3", "--azimuth", "0:90:3", "--pairwise", "--json")
    shown = json.loads(result.stdout)["pictures"]
    assert [(one["time"], one["azimuth"]) for one in shown] == [(0, 0), (0.25, 45), (0.5, 90)]
    assert Image.open(tmp_path / "path.png").size == (96, 32)


def test_cameras_from_a_file_are_those_of_the_pipeline(parts, tmp_path):
    quarter = [[0.0, 0, -1, 1], [0, 1, 0, 0], [1, 0, 0, 1]]  # a turn to azimuth 90
    still = np.eye(4).tolist()
    (tmp_path / "poses.json").write_text(json.dumps([quarter, still]))
    (tmp_path / "poses.txt").write_text("0 0 -1 1\n0, 1, 0, 0\n1 0 0 1\n\n# none\n1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    drawn = {}
    for name in ("poses.json", "poses.txt"):
        out = tmp_path / f"{name}.png"
        result = generate(parts, out, "--relative-pose", tmp_path / name, "--time", "0,0.5", "--json")
        assert result.exit_code == 0, result.output
        facts = json.loads(result.stdout)
        assert (facts["rows"], facts["columns"]) == (2, 2)
        assert [(one["relative_pose"], one["time"]) for one in facts["pictures"]] == [
            (pose, time) for pose in (quarter, still) for time in (0, 0.5)
        ]
        drawn[name] = np.asarray(Image.open(out)).astype(int)
    assert np.array_equal(*drawn.values())
    (cell,) = call(parts, time=0.5, azimuth=90, seed=0)
    assert np.abs(drawn["poses.json"][:32, 32:] - np.asarray(cell)).max() <= 1
    (tmp_path / "one.json").write_text(json.dumps(quarter))
    result = generate(parts, tmp_path / "one.png", "--relative-pose", tmp_path / "one.json")
    assert result.exit_code == 0 and Image.open(tmp_path / "one.png").size == (32, 32)


def test_it_works_right_after_install(tmp_path):
    """With the base, adapter and example of the repository."""
    out = tmp_path / "walk.png"
    result = run("generate", "--image", ROOT / "examples/walk.png", "--time", 0.25, "--steps", 2, "--out", out)
    assert result.exit_code == 0, result.output
    assert Image.open(out).size == (128, 128)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--time", "1.5"), "--time: expected a share of the scene from -1 to 1, got 1.5"),
        (("--time", "0:1"), "--time: expected a number, a list a,b,c or a range from:to:count, got '0:1'"),
        (("--time", "0:1:0"), "--time: expected a count from 1 to 1000, got 0"),
        (("--seconds", "0.5"), "seconds: expected duration_s beside it"),
        (("--seconds", "5", "--duration-s", "2"), "--seconds: expected at most the scene's 2 s"),
        (("--seconds", "0.5", "--time", "0.5"), "--seconds: expected no --time beside it"),
        (("--radius", "0"), "--radius: expected a factor"),
        (("--azimuth", "1,2,3", "--elevation", "1,2"), "--elevation: expected 1 or 3 values"),
        (("--azimuth", "1,2,3", "--time", "0,1", "--pairwise"), "--pairwise: expected as many times as cameras, got 2"),
        (("--scheduler", "magic"), "scheduler: expected one of ddim, "),
        (("--device", "cuda:99"), "device: expected one that this machine has (cpu"),
        (("--device", "abacus"), "device: expected one that this machine has (cpu"),
        (("--noise-scale", "2"), "noise_scale: expected 0 to 1"),
        (("--guidance-rescale", "2"), "guidance_rescale: expected 0 to 1"),
        (("--prompt-strength", "-1", "--prompt", "a man"), "prompt_strength: expected 0 to 1, got -1.0"),
        (("--prompt-strength", "nan"), "prompt_strength: expected 0 to 1, got nan"),
        (("--view-guidance", "-1"), "view guidance: expected at least 0"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(parts, tmp_path, arguments, message):
    assert_one_line(generate(parts, tmp_path / "out.png", *arguments), message)
    assert not list(tmp_path.iterdir())


def test_bad_pictures_and_places_are_one_line_and_status_2(parts, tmp_path):
    Image.new("1", (10_001, 10_000)).save(tmp_path / "huge.png")
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "cut.png").write_bytes(Path(parts["--image"]).read_bytes()[:200])
    for name, message in (
        ("huge.png", "huge.png: expected at most 64 megapixels, found 10001x10000"),
        ("text.png", "text.png: expected a whole picture"),
        ("cut.png", "cut.png: expected a whole picture"),
        ("none.png", "none.png: expected a picture, there is no such file"),
    ):
        assert_one_line(generate(parts, tmp_path / "out.png", **{"--image": str(tmp_path / name)}), message)
    for out, message in (
        (tmp_path / "out.webm", "expected a file that ends in .png, .gif, .mp4"),
        (tmp_path / "nowhere/out.png", "expected a file in an existing folder"),
        (tmp_path, "expected a file that ends in"),
    ):
        assert_one_line(generate(parts, out), message)


def test_models_that_do_not_fit_are_one_line_and_status_2(parts, tmp_path):
    out = tmp_path / "out.png"
    other = build_tiny_base(tmp_path / "other", blocks=(32, 96))
    assert_one_line(generate(parts, out, **{"--base": str(other)}), "layer_widths: the adapter was trained on a base")
    adapter = tmp_path / "adapter"
    shutil.copytree(parts["--adapter"], adapter)
    (adapter / "adapter.safetensors").unlink()
    assert_one_line(generate(parts, out, **{"--adapter": str(adapter)}), f"{adapter / 'adapter.safetensors'}: expected")
    assert_one_line(generate(parts, out, **{"--adapter": str(tmp_path / "no/such/one")}), "no/such/one: expected an")
    assert_one_line(generate(parts, out, **{"--base": str(tmp_path)}), "model_index.json: expected a model")
    (other / "unet/diffusion_pytorch_model.safetensors").unlink()
    assert_one_line(generate(parts, out, **{"--base": str(other)}), f"{other}: expected a base")


def test_outside_a_checkout_base_and_adapter_must_be_named(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "ROOT", tmp_path / "site-packages")
    monkeypatch.chdir(tmp_path)
    named = {"--image": parts["--image"]}
    in_a_clone = "run the command in a clone of the repository"
    result = run("generate", "--out", tmp_path / "out.png", **named)
    assert_one_line(result, "--base: expected a folder or a Hub id, because the default, data/base/mini, comes with")
    assert_one_line(result, in_a_clone)
    named["--base"] = parts["--base"]
    assert_one_line(run("generate", "--out", tmp_path / "out.png", **named), "--adapter: expected a folder or a Hub id")


def test_a_package_from_a_wheel_finds_them_in_a_clone(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "ROOT", tmp_path / "site-packages")
    monkeypatch.chdir(tmp_path)
    for folder, option in ((shipped.BASE, "--base"), (shipped.ADAPTER, "--adapter")):
        folder.parent.mkdir(parents=True)
        folder.symlink_to(parts[option])
    arguments = ("--time", 0.2, "--steps", 1, "--device", "cpu", "--out", tmp_path / "out.png")
    result = run("generate", *arguments, **{"--image": parts["--image"]})
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out.png").is_file()


@pytest.mark.parametrize("command", ["generate", "export", "import", "inspect", "evaluate", "fetch"])
def test_every_command_explains_itself_with_an_example(command):
    result = run(command, "--help")
    assert result.exit_code == 0 and f"fourdistill {command}" in " ".join(result.stdout.split())


def test_help_does_not_wait_for_torch():
    code = "import sys, fourdistill, fourdistill.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
