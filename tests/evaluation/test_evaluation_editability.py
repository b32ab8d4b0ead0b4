import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from dvc_render.vega import VegaRenderer
from imports import ROOT
from PIL import Image
from ruamel.yaml import YAML
from safetensors.torch import save_file
from stage_settings import changed
from tiny_evaluation import SETTINGS, make_pipe
from tiny_scenes import SIZE

from fourdistill.evaluation.editability import (
    CaptionEncoder,
    at_lambda,
    at_strength,
    by_lambda,
    by_strength,
    choose_edits,
    score_edits,
)
from fourdistill.evaluation.evaluate import Inputs, Outputs, edit_points, evaluate
from fourdistill.evaluation.metrics.cells import read_cells
from fourdistill.evaluation.metrics.feature_spaces import FeatureSpaces
from fourdistill.evaluation.metrics.summary import Summary, summarise_edits
from fourdistill.evaluation.protocol.frames import FrameReader
from fourdistill.evaluation.protocol.pairs import choose_pairs
from fourdistill.evaluation.protocol.sweeps import build_sweeps
from fourdistill.evaluation.report.pictures import contact_sheet, wrap
from fourdistill.evaluation.systems.generate import Painter

CAPTIONS = ["a man in a kick", "a man in a walk"]
FIGURES = ("clip_t", "clip_i", "time_frames", "azimuth_deg")


class Answers(Painter):
    """A painter that returns the true source or target of every command."""

    def __init__(self, pipe, read, side):
        self.pipe, self.read, self.side, self.weights = pipe, read, side, []

    def __call__(self, commands, description, **weights):
        self.weights.append(weights)
        return [self.read(getattr(command, self.side)) for command in commands]


@pytest.fixture(scope="module")
def pipe(tiny_base):
    return make_pipe(tiny_base)


@pytest.fixture(scope="module")
def base(tiny_base, pipe, tmp_path_factory):
    """The tiny base with a projection of captions into its image encoder's space."""
    folder = tmp_path_factory.mktemp("base") / "with_projection"
    shutil.copytree(tiny_base, folder)
    width, dim = pipe.text_encoder.config.hidden_size, pipe.image_encoder.config.projection_dim
    (folder / "clip_projection").mkdir()
    projection = torch.randn(dim, width, generator=torch.Generator().manual_seed(0))
    save_file({"text_projection.weight": projection}, folder / "clip_projection" / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def read(grid_scenes):
    return FrameReader(grid_scenes.frames_table, grid_scenes.frames, SIZE)


@pytest.fixture(scope="module")
def spaces(pipe):
    return FeatureSpaces(pipe.vae, pipe.image_encoder, pipe.feature_extractor, SIZE, 4)


@pytest.fixture(scope="module")
def cells(grid_scenes, read, spaces):
    return read_cells({"walk"}, grid_scenes.frames_table, grid_scenes.scenes_table, read, spaces)


@pytest.fixture(scope="module")
def edits(grid_scenes):
    """Joint commands of the held-out scene with the other scene's caption."""
    rng = np.random.default_rng(0)
    sweeps = build_sweeps(
        grid_scenes.frames_table, grid_scenes.scenes_table, 1, 4, max_gap=None, max_gap_s=None, rng=rng
    )
    return choose_edits([command for sweep in sweeps for command in sweep.commands], CAPTIONS, 4, rng)


@pytest.fixture(scope="module")
def encode(pipe, base):
    return CaptionEncoder.from_base(pipe, str(base))


@pytest.fixture(scope="module")
def evaluated(pipe, base, grid_scenes, features, tmp_path_factory):
    """(folder, figures) of an evaluation with edits. Read only."""
    folder = tmp_path_factory.mktemp("evaluated")
    inputs = Inputs(
        str(base),
        grid_scenes.frames_table,
        grid_scenes.frames,
        features,
        grid_scenes.pairs_table,
        grid_scenes.scenes_table,
    )
    names = ("metrics.json", "figures.json", "plots", "reports/evaluation", "index.html")
    evaluate(pipe, inputs, Outputs(*(folder / n for n in names)), changed(SETTINGS, baselines=False), seed=0)
    return folder, json.loads((folder / "figures.json").read_text())


def test_a_caption_has_a_place_only_where_the_base_has_a_space_for_both(pipe, tiny_base, encode):
    assert CaptionEncoder.from_base(pipe, str(tiny_base)) is None
    np.testing.assert_allclose(np.linalg.norm(encode(CAPTIONS), axis=1), 1, rtol=1e-5)


def test_edits_are_joint_commands_of_every_scene_in_turn(grid_scenes):
    pairs = choose_pairs(grid_scenes.pairs_table, 60, seed=0)
    commands = [replace(c, source=replace(c.source, scene=scene)) for scene in ("walk", "run", "hop") for c in pairs]
    chosen = choose_edits(commands, CAPTIONS, 6, np.random.default_rng(0))
    assert {command.kind for command in chosen} == {"joint"}
    scenes = [command.source.scene for command in chosen]
    assert scenes == scenes[:3] * 2 and set(scenes) == {"walk", "run", "hop"}
    assert len({(command.source, command.target) for command in chosen}) == 6
    assert {command.caption for command in chosen} == {"a man in a kick"}  # their own is the other one


def test_without_joint_commands_others_are_edited_and_without_captions_none(grid_scenes):
    rng = np.random.default_rng(0)
    pairs = choose_pairs(grid_scenes.pairs_table, 60, seed=0)
    times = [command for command in pairs if command.kind == "time"]
    assert [command.kind for command in choose_edits(times, CAPTIONS, 2, rng)] == ["time"] * 2
    assert choose_edits(pairs, ["a man in a walk"], 3, rng) == []
    assert choose_edits([replace(command, caption=None) for command in pairs], CAPTIONS, 3, rng) == []
    assert choose_edits(pairs, CAPTIONS, 0, rng) == []


def test_strengths_and_lambdas_are_two_weights_each():
    assert (at_strength(0, 3.0).lambda_, at_strength(0, 3.0).text_guidance) == (3.0, 1.0)
    full = at_strength(1, 3.0)
    assert full.lambda_ < 3 and full.text_guidance > 1
    assert at_lambda(0.5, 3.0) == replace(full, lambda_=0.5)
    assert list(by_strength([0, 0.5, 1, 0.2], 3.0)) == ["as pictured", "half", "as in the prompt", "strength 0.2"]
    assert list(by_lambda([0, 1], 3.0)) == ["lambda 3", "lambda 0", "lambda 1"]


def test_what_is_painted_at_a_strength_is_what_a_user_gets(pipe, read, spaces, cells, encode, edits):
    paint = Painter(pipe, read, num_inference_steps=2, text_guidance=1.0, batch_size=4, seed=0)
    [drawn] = score_edits(paint, spaces, encode, edits, cells, [0.5], []).pictures([0.5]).values()
    command = edits[0]
    [expected] = pipe(
        read(command.source), command.caption, displacement=command.displacement, prompt_strength=0.5,
        seed=paint.noise_seed(command.source), num_inference_steps=2,
    ).images  # fmt: skip
    assert np.abs(np.asarray(drawn[0]).astype(int) - np.asarray(expected)).max() <= 1


def test_no_setting_is_painted_twice(pipe, read, spaces, cells, encode, edits):
    paint = Answers(pipe, read, "target")
    scored = score_edits(paint, spaces, encode, edits, cells, [0, 1], [0.0, at_strength(1, 3.0).lambda_, 3.0])
    assert [e.name for e in scored.tried] == ["as pictured", "as in the prompt", "lambda 3", "lambda 0"]
    assert [(e.setting.lambda_, e.setting.text_guidance) for e in scored.tried] == [
        (weights["lambda_"], weights["text_guidance"]) for weights in paint.weights
    ]
    assert set(scored.figures()) == {"", "as_pictured.", "lambda_0.", "own_lambda."}
    # A perfect answer is on its cell and has the highest possible similarity.
    for edited in scored.tried:
        assert not edited.scores["time_frames"].any() and not edited.scores["azimuth_deg"].any()
        np.testing.assert_allclose(edited.scores["clip_i"], 1, rtol=1e-4)


def test_a_copy_is_as_far_off_as_was_commanded(pipe, read, spaces, cells, encode, edits):
    paint = Answers(pipe, read, "source")
    [edited] = score_edits(paint, spaces, encode, edits, cells, [1], []).tried[:1]
    frames = [abs(command.source.frame - command.target.frame) for command in edits]
    np.testing.assert_allclose(edited.scores["time_frames"], frames, atol=1e-4)
    azimuths = [abs(command.told["azimuth"]) for command in edits]
    np.testing.assert_allclose(edited.scores["azimuth_deg"], azimuths, atol=1e-3)


def test_intervals_are_by_scene_and_unknown_poses_are_left_out(edits):
    summary = Summary(50, seed=0)
    scenes = [replace(c, source=replace(c.source, scene=s)) for c, s in zip(edits, "aabb", strict=True)]
    scores = {"time_frames": np.array([0.0, 2.0, 4.0, 6.0]), "azimuth_deg": np.array([10.0, np.nan, 20.0, np.nan])}
    summarise_edits({"": scores, "as_pictured.": {"clip_t": np.array([1.0, 1.0, 3.0, 3.0])}}, scenes, summary)
    found = summary.metrics
    assert (found["editability.time_frames"], found["editability.azimuth_deg"]) == (3.0, 15.0)
    assert (found["editability.time_frames.ci_low"], found["editability.time_frames.ci_high"]) == (1.0, 5.0)
    assert found["editability.as_pictured.clip_t"] == 2.0


def test_an_evaluation_measures_and_shows_edits(evaluated):
    folder, metrics = evaluated
    for prefix in ("", "as_pictured.", "lambda_0.", "own_lambda."):
        for name in FIGURES:
            assert np.isfinite(metrics[f"editability.{prefix}{name}"])
    short = json.loads((folder / "metrics.json").read_text())
    assert short["edit.time"] == pytest.approx(metrics["editability.time_frames"], rel=1e-3)
    rows = list(csv.DictReader((folder / "plots" / "editability.csv").open()))
    # At full prompt strength, lambda is two thirds of the adapter's own.
    assert [row["setting"] for row in rows] == ["as pictured", "half", "as in the prompt", "lambda 3", "lambda 0"]
    assert [float(row["lambda"]) for row in rows] == [3, 2.5, 2, 3, 0]
    for i, prefix in ((0, "as_pictured."), (2, ""), (3, "own_lambda."), (4, "lambda_0.")):
        for name in FIGURES:
            assert float(rows[i][name]) == pytest.approx(metrics[f"editability.{prefix}{name}"], abs=1e-4)
            if f"editability.{prefix}{name}.ci_low" in metrics:
                assert float(rows[i][f"{name}_low"]) == metrics[f"editability.{prefix}{name}.ci_low"]
    with Image.open(folder / "reports" / "evaluation" / "edits.png") as sheet:
        assert sheet.width > 5 * SIZE and sheet.height > 2 * SIZE
    page = (folder / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 7 and 'alt="edits"' in page
    for text in (">as in the prompt</text>", "half: λ 2.5, text guidance", "<h2>Prompts</h2>", ">Edits</h2>"):
        assert text in page


def test_the_plot_of_dvc_shows_every_setting_by_its_name(evaluated):
    folder, _ = evaluated
    rows = list(csv.DictReader((folder / "plots" / "editability.csv").open()))
    [plot] = [
        options
        for plot in YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["plots"]
        if isinstance(plot, dict)
        for options in plot.values()
        if "${paths.plots}/editability.csv" in options["y"]
    ]
    [y] = plot["y"]["${paths.plots}/editability.csv"]
    shown = {name: plot[name] for name in ("template", "x", "x_label", "y_label")}
    points = [{**row, "rev": "workspace"} for row in rows]
    spec = VegaRenderer(points, "plot", template_dir=ROOT / ".dvc/plots", y=y, **shown).get_filled_template()
    assert "<DVC" not in json.dumps(spec)
    encoded = json.dumps([spec["encoding"], spec["layer"]])
    for column in (plot["x"], y, "setting", "lambda", "text_guidance"):
        assert f'"field": "{column}"' in encoded and column in rows[0]


def test_a_setting_without_poses_has_an_empty_azimuth(pipe, read, spaces, cells, encode, edits):
    paint = Answers(pipe, read, "source")
    scored = score_edits(paint, spaces, encode, edits, cells, [1], [])
    scored.tried[0].scores["azimuth_deg"][:] = np.nan
    assert edit_points(scored, Summary(50, seed=0))[0]["azimuth_deg"] == ""


def test_a_long_prompt_is_wrapped_below_its_row():
    prompt = "a woman with short black hair in a long-sleeved striped blue and navy top gets up"
    lines = wrap(prompt, 150).split("\n")
    assert len(lines) > 2 and " ".join(lines) == prompt
    row = [Image.new("RGB", (64, 64))] * 2
    one, three = (contact_sheet([row, row], ["a", "b"], ["x", label]) for label in ("y", "y\nz\nz"))
    assert one.width == three.width and three.height - one.height == 2 * (one.height - 128) // 3
    assert np.asarray(three)[-18:].min() < 200  # its last line contains text
