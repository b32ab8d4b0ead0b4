"""`fourdistill inspect`: its output for several formats, as text, JSON and picture."""

import json
from dataclasses import replace

import numpy as np
import pytest
from format_writers import CENTRAL, FORMATS, GENERAL, LENS, write_nerfstudio
from PIL import Image
from tiny_scenes import SIZE, gray_film, truncate, write_dynerf, write_film
from typer.testing import CliRunner

from fourdistill.cli import app
from fourdistill.scene import Scene, Video
from fourdistill.sources.inspect.facts import find_format
from fourdistill.sources.inspect.figure import place_frames
from fourdistill.video.films import ProbedFilm
from fourdistill.video.kept_frames import keep_frames

IDS = [form.write.__name__.removeprefix("write_") for form in FORMATS]


def run(*arguments):
    """The output of `fourdistill inspect`, which must succeed."""
    result = CliRunner().invoke(app, ["inspect", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def facts(*arguments):
    return json.loads(run(*arguments, "--json"))


def refused(*arguments):
    """The one-line error of `fourdistill inspect`."""
    result = CliRunner().invoke(app, ["inspect", *map(str, arguments)])
    assert result.exit_code == 2 and not result.stdout
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("form", FORMATS, ids=IDS)
def test_json_of_every_posed_format(tmp_path, form):
    capture = GENERAL if form.general else CENTRAL
    form.write(tmp_path / "scene", replace(capture, distortion=LENS) if form.lens else capture)
    assert find_format(tmp_path) == form.name
    if form.name != "realestate10k":
        assert find_format(tmp_path / "scene") == form.name
    found = facts(tmp_path)
    assert found == facts(tmp_path, "--format", form.name)
    assert found["format"] == form.name
    (scene,) = found["scenes"]
    assert scene["name"] == "scene" and scene["pose_source"]
    cameras = scene["cameras"]
    assert [camera["name"] for camera in cameras] == sorted({camera["name"] for camera in cameras})
    films = form.name in ("dynerf", "qualisys", "realestate10k")
    for camera in cameras[: 1 if form.moving else None]:
        assert camera["num_frames"] == camera["num_posed"] == 4
        assert camera["has_poses"] is True and camera["moves"] is form.moving and camera["distorted"] is form.lens
        assert (camera["width"], camera["height"]) == capture.size
        assert camera["focal_px"] == pytest.approx(capture.K[0, 0])
        assert camera["fps"] == (pytest.approx(8) if films else None)
        assert camera["duration_s"] == pytest.approx(0.375 if films else 1.0)
    assert scene["has_clock"] is films
    assert any("no clock" in line for line in scene["warnings"]) is not films
    assert any("lens distorts" in line for line in scene["warnings"]) is form.lens


def test_films_without_poses_of_any_rate(tmp_path):
    write_film(tmp_path / "even.mp4", gray_film([10] * 5), [index / 25 for index in range(5)])
    write_film(tmp_path / "uneven.mp4", gray_film([10] * 5), [0, 0.04, 0.2, 0.24, 0.9])
    write_film(tmp_path / "broken.mp4", np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE, 3), dtype=np.uint8))
    truncate(tmp_path / "broken.mp4")
    found = facts(tmp_path)
    assert found["format"] == "video"
    broken, even, uneven = (scene["cameras"][0] for scene in found["scenes"])
    assert even["fps"] == pytest.approx(25) and even["duration_s"] == pytest.approx(0.16)
    assert (even["has_poses"], even["variable_rate"], uneven["variable_rate"]) == (False, False, True)
    assert uneven["duration_s"] == pytest.approx(0.9)
    assert broken["error"] and broken["num_frames"] == 0
    assert "skipped" in found["scenes"][0]["warnings"][0]
    assert "variable frame rate" in found["scenes"][2]["warnings"][0]
    text = run(tmp_path)
    assert "3 scenes" in text and "(varies)" in text and "skipped: truncated" in text


def test_cameras_out_of_step(tmp_path):
    scene = write_dynerf(tmp_path / "kick", 3, 6)
    (scene / "sync.csv").write_text("camera,offset_s\ncam01,0.5\n")
    write_film(scene / "cam02.mp4", gray_film([10] * 4), [0, 0.125, 0.5, 0.625])
    (found,) = facts(tmp_path)["scenes"]
    assert [camera["start_s"] for camera in found["cameras"]] == [0, 0.5, 0]
    assert found["duration_s"] == pytest.approx(0.5 + 5 / 8)
    warnings = "\n".join(found["warnings"])
    assert "frame numbers do not agree" in warnings and "cam02: lacks 2 of the scene's instants" in warnings


def test_pictures_that_cannot_be_read(tmp_path):
    write_nerfstudio(tmp_path / "room", GENERAL)
    (tmp_path / "room" / "images" / "frame_00001.png").write_bytes(b"")
    Image.new("RGB", (8, 8)).save(tmp_path / "room" / "images" / "frame_00003.png")
    (found,) = facts(tmp_path)["scenes"]
    assert (found["cameras"][0]["width"], found["cameras"][0]["height"]) == GENERAL.size
    warnings = "\n".join(found["warnings"])
    assert "cam00: 1 of 4 pictures cannot be read, such as frame_00001.png" in warnings
    assert "cam00: pictures of 2 sizes: 8x8, 112x80" in warnings


@pytest.mark.parametrize("form", [FORMATS[0], FORMATS[1], FORMATS[3]], ids=lambda form: form.name)
def test_the_figure_is_a_picture_of_cameras_and_frames(tmp_path, form):
    form.write(tmp_path / "raw" / "scene", GENERAL if form.general else CENTRAL)
    run(tmp_path / "raw", "--figure", tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        assert image.format == "PNG" and min(image.size) > 300
        pixels = np.asarray(image.convert("RGB")).astype(int)
    left, right = np.split(pixels, [pixels.shape[1] // 3], axis=1)
    colors = left.max(-1) - left.min(-1)
    assert (colors > 60).sum() > 50  # coloured cameras
    if form.name != "dnerf":  # its dots are as white as the background
        assert (right.max(-1) < 100).mean() > 0.4  # dark frames


def test_the_figure_of_what_cannot_be_read(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.mp4").write_bytes(b"no film")
    write_film(tmp_path / "raw" / "b.mp4", gray_film([40, 80]))
    run(tmp_path / "raw", "--figure", tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        image.verify()


def test_the_figure_shows_all_cameras_at_the_same_instants(tmp_path):
    scene = Scene("clip", (Video("a", tmp_path / "a.mp4"), Video("b", tmp_path / "b.mp4")))
    times = np.arange(9) / 8
    films = [ProbedFilm("clip", film, seen, None) for film, seen in zip(scene.videos, (times, times[4:]), strict=True)]
    tasks, _ = keep_frames([scene], films, None)
    first, second = ((frames.tolist(), columns) for _, frames, columns in place_frames(tasks))
    assert first == ([0, 2, 4, 6, 8], [0, 1, 2, 3, 4])
    assert second == ([0, 2, 4], [2, 3, 4])  # it starts later


def test_wrong_input(tmp_path):
    write_dynerf(tmp_path / "raw" / "kick", 2, 2)
    (tmp_path / "empty").mkdir()
    assert "nowhere: expected a folder of raw data, found none" in refused(tmp_path / "nowhere")
    assert "expected a folder of raw data" in refused(tmp_path / "raw" / "kick" / "cam00.mp4")
    assert "found an empty folder" in refused(tmp_path / "empty")
    assert "format: expected one of colmap, dnerf" in refused(tmp_path / "raw", "--format", "llff")
    assert "expected transforms_train.json" in refused(tmp_path / "raw", "--format", "dnerf")
    assert "--figure: expected a file in an existing folder" in refused(tmp_path / "raw", "--figure", tmp_path)
    refused(tmp_path / "raw", "--figure", tmp_path / "nowhere" / "figure.png")
    assert "expected a name that ends in one of" in refused(tmp_path / "raw", "--figure", tmp_path / "figure.bmpp")
    assert not (tmp_path / "nowhere").exists()


def test_a_clip_with_a_bad_line_is_not_taken_for_a_plain_film(tmp_path):
    write_film(tmp_path / "clip.mp4", gray_film([10, 20]))
    (tmp_path / "clip.txt").write_text("https://www.youtube.com/watch?v=x\n0 1 2\n")
    assert "clip.txt: line 2: expected 19 numbers" in refused(tmp_path)


def test_a_folder_in_which_nothing_can_be_read_is_status_2(tmp_path):
    (tmp_path / "film.mp4").write_bytes(b"no film")
    result = CliRunner().invoke(app, ["inspect", str(tmp_path)])
    assert result.exit_code == 2 and "skipped" in result.stdout  # the reason for each file, then the error line
    assert result.stderr == f"error: {tmp_path}: expected something that can be read, found nothing\n"
