"""Pictures of other systems: true frames score perfectly; errors in the table name file, line and field."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fourdistill.cli import app
from fourdistill.evaluation.folder import COLUMNS, read_answer, read_folder
from fourdistill.tables import FRAMES, read_table


@pytest.fixture
def folder(grid_scenes, tmp_path):
    """The true frames as the answers to a time sweep, a camera sweep and two single pairs of `walk`."""
    rows = [("walk", "cam00", 4, "cam00", frame, "t") for frame in range(0, 9, 2)]
    rows += [("walk", "cam00", 4, f"cam{camera:02d}", 4, "v") for camera in range(4)]
    rows += [("walk", "cam00", 4, "cam01", 7, ""), ("walk", "cam00", 4, "cam00", 0, "")]
    path = tmp_path / "answers"
    path.mkdir()
    table = []
    for number, (scene, source_camera, source_frame, target_camera, target_frame, sweep) in enumerate(rows):
        truth = grid_scenes.frames / scene / target_camera / f"{target_frame:06d}.jpg"
        (path / f"{number}.jpg").write_bytes(truth.read_bytes())
        fixed = (f"{number}.jpg", scene, source_camera, source_frame, target_camera, target_frame, sweep)
        table.append(dict(zip(COLUMNS, fixed, strict=True)))
    write(path, table)
    return path


def write(path, table):
    with (path / "commands.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, table[0].keys())
        writer.writeheader()
        writer.writerows(table)


def evaluate(folder, grid_scenes, tiny_base, *more):
    arguments = ["--generated", str(folder), "--grid", str(grid_scenes.frames_table), "--base", str(tiny_base)]
    return CliRunner().invoke(app, ["evaluate", *arguments, "--num-bootstrap", "20", *more])


def test_the_truth_scores_perfectly_in_every_space(folder, grid_scenes, tiny_base, tmp_path):
    result = evaluate(folder, grid_scenes, tiny_base, "--json", "--out", str(tmp_path / "scores.json"))
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / "scores.json").read_text())
    assert json.loads(result.stdout[result.stdout.index("{") :]) == metrics
    for space in ("", "pixels.", "clip."):
        assert metrics[f"{space}time.mae_frames"] == metrics[f"{space}view.azimuth_error_deg"] == 0
        assert metrics[f"{space}time.spearman"] == metrics[f"{space}time.top1"] == metrics[f"{space}view.top1"] == 1
    assert metrics["psnr"] == 100 and metrics["num_pairs"] == 2 and metrics["joint.num_pairs"] == 1
    # The copy baseline: the mean of 4, 2, 0, 2, 4 frames and of 0, 90, 180, 90 degrees.
    assert metrics["baseline.copy.time.mae_frames"] == pytest.approx(12 / 5)
    assert metrics["baseline.copy.view.azimuth_error_deg"] == pytest.approx(90, abs=0.01)


def test_tables_are_printed(folder, grid_scenes, tiny_base):
    result = evaluate(folder, grid_scenes, tiny_base)
    assert "copy the condition" in result.stdout and "joint top-1" in result.stdout


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("file", "../answers/0.jpg", "line 2: file: expected the plain name of a picture"),
        ("file", "", "line 2: file: expected the plain name"),
        ("file", "none.jpg", "line 2: file: expected"),
        ("scene", "swim", "line 2: scene: expected one of the frames table, found 'swim'"),
        ("target_frame", "99", "line 2: walk: expected frame 99 of camera cam00, found none"),
        ("target_frame", "-1", "line 2: target_frame: expected a frame index, found '-1'"),
        ("target_camera", "cam01", "line 2: sweep: expected all rows of t to change time, view or both alike"),
    ],
)
def test_a_wrong_row_is_named(folder, grid_scenes, tiny_base, field, value, message):
    table = list(csv.DictReader((folder / "commands.csv").open()))
    write(folder, [table[0] | {field: value}, *table[1:]])
    result = evaluate(folder, grid_scenes, tiny_base)
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert f"{folder / 'commands.csv'}: {message}" in line


def test_a_camera_that_the_table_lacks_is_named(folder, grid_scenes, tiny_base):
    table = list(csv.DictReader((folder / "commands.csv").open()))
    write(folder, [*table[:-1], table[-1] | {"source_camera": "cam77"}])
    result = evaluate(folder, grid_scenes, tiny_base)
    assert result.exit_code == 2 and "line 12: walk: expected frame 4 of camera cam77, found none" in result.stderr


def test_a_missing_column_or_table_is_named(folder, grid_scenes, tiny_base):
    table = list(csv.DictReader((folder / "commands.csv").open()))
    write(folder, [{name: value for name, value in row.items() if name != "sweep"} for row in table])
    result = evaluate(folder, grid_scenes, tiny_base)
    assert result.exit_code == 2 and "commands.csv: sweep: expected this column" in result.stderr
    (folder / "commands.csv").unlink()
    result = evaluate(folder, grid_scenes, tiny_base)
    assert result.exit_code == 2 and "commands.csv: expected a table of commands" in result.stderr


def test_a_sweep_that_goes_nowhere_is_refused(folder, grid_scenes, tiny_base):
    table = list(csv.DictReader((folder / "commands.csv").open()))
    write(folder, [row | {"target_frame": "4"} if row["sweep"] == "t" else row for row in table])
    result = evaluate(folder, grid_scenes, tiny_base)
    assert result.exit_code == 2 and "to change time or view somewhere" in result.stderr


def test_leading_zeros_and_a_byte_order_mark_change_nothing(folder, grid_scenes, tiny_base):
    plain = evaluate(folder, grid_scenes, tiny_base, "--json")
    table = list(csv.DictReader((folder / "commands.csv").open()))
    write(folder, [row | {"target_frame": f"0{row['target_frame']}"} for row in table])
    text = (folder / "commands.csv").read_text()
    (folder / "commands.csv").write_text("\ufeff" + text, encoding="utf-8")
    assert evaluate(folder, grid_scenes, tiny_base, "--json").stdout == plain.stdout


def test_a_damaged_picture_is_named(folder, grid_scenes, tiny_base):
    (folder / "3.jpg").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    result = evaluate(folder, grid_scenes, tiny_base)
    assert result.exit_code == 2 and f"{folder / '3.jpg'}: expected a whole picture" in result.stderr


def test_pictures_are_read_as_everywhere_else(tmp_path):
    Image.fromarray(np.full((2, 3), 0x8000, np.uint16)).save(tmp_path / "deep.png")
    Image.new("RGBA", (3, 2), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation: a quarter turn
    Image.new("RGB", (3, 2), "red").save(tmp_path / "turned.jpg", exif=turned)
    assert read_answer(tmp_path / "deep.png").getcolors() == [(6, (128, 128, 128))]
    assert read_answer(tmp_path / "clear.png").getcolors() == [(6, (255, 255, 255))]
    assert read_answer(tmp_path / "turned.jpg").size == (2, 3)


def test_out_must_be_a_file(folder, grid_scenes, tiny_base, tmp_path):
    for out in (tmp_path, tmp_path / "none" / "scores.json"):
        result = evaluate(folder, grid_scenes, tiny_base, "--out", str(out))
        assert result.exit_code == 2 and "--out: expected a file in an existing folder" in result.stderr


def test_times_are_shares_of_the_scene_or_of_the_seconds_that_pairs_have(folder, grid_scenes):
    def times(max_gap_s):
        task, _ = read_folder(folder, grid_scenes.frames_table, grid_scenes.scenes_table, max_gap_s)
        return [[command.told["time"] for command in group] for group in (task.pairs, task.sweeps[0].commands)]

    rows = {row["frame_index"]: row for row in read_table(grid_scenes.frames_table, FRAMES).to_pylist()}
    span_s = rows[8]["timestamp_s"] - rows[0]["timestamp_s"]
    assert times(None) == [pytest.approx([3 / 8, -4 / 8]), pytest.approx([-0.5, -0.25, 0, 0.25, 0.5])]
    assert times(span_s / 4) == [pytest.approx([3 / 2, -2]), pytest.approx([-2, -1, 0, 1, 2])]


def test_what_is_large_follows_the_normaliser(folder, grid_scenes, tiny_base):
    table = [row for row in csv.DictReader((folder / "commands.csv").open()) if row["sweep"] != "v"]
    write(folder, [row | ({} if row["sweep"] else {"target_camera": "cam00"}) for row in table])
    for options, seen in (((), (False, True)), (("--max-gap-s", "0.5"), (True, False))):
        result = evaluate(folder, grid_scenes, tiny_base, "--json", "--large-gap", "0.9", *options)
        metrics = json.loads(result.stdout[result.stdout.index("{") :])
        assert ("psnr.large" in metrics, "psnr.small" in metrics) == seen


@pytest.mark.parametrize(
    "options", [("--max-gap-s", "0"), ("--max-gap-s", "nan"), ("--large-gap", "nan"), ("--large-azimuth-deg", "inf")]
)
def test_numbers_that_measure_nothing_are_refused(folder, grid_scenes, tiny_base, options):
    result = evaluate(folder, grid_scenes, tiny_base, *options)
    assert result.exit_code == 2 and result.stderr.startswith(f"error: {options[0]}: expected")
    assert len(result.stderr.splitlines()) == 1
