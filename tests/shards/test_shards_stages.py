"""The stage scripts, run from the command line in a folder with a params.yaml."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML
from tiny_scenes import SIZE, gray_film, poses_bounds, ring_cameras, truncate, write_dynerf, write_film

from fourdistill.tables import PAIRS, read_table

ROOT = Path(__file__).parents[2]


@pytest.fixture
def workplace(tmp_path):
    """A folder with the project's params.yaml, changed to small scenes."""
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    params["sources"] = [{"name": "ring", "format": "dynerf"}]
    params["extract_frames"] |= {"size": SIZE, "jobs": 1}
    params["extract_frames"]["split"] = {
        "test_scenes": [],
        "val_scenes": [],
        "test_cameras": ["cam01"],
        "test_times": [],
        "held_out_in": None,
    }
    params["build_pairs"]["num_pairs"] = {"train": 40, "val": 0, "test": 10}
    params["write_shards"]["features"] = False

    def save():
        with (tmp_path / "params.yaml").open("w") as file:
            YAML().dump(params, file)

    save()
    return tmp_path, params, save


def run(folder, stage, status=0):
    done = subprocess.run(
        [sys.executable, ROOT / "pipeline" / f"{stage}.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    return done.stderr


def test_the_data_stages_run_one_after_another(workplace):
    folder, _, _ = workplace
    write_dynerf(folder / "data" / "raw" / "ring" / "kick", 3, 4)
    for stage in ("extract_frames", "build_pairs", "write_shards"):
        run(folder, stage)
    assert (folder / "data" / "frames" / "kick" / "cam02" / "000003.jpg").is_file()
    assert read_table(folder / "data" / "pairs.parquet", PAIRS).num_rows == 50
    for name in ("data/shards/train-000000.tar", "data/shards/test-000000.tar", "data/shards/index.json"):
        assert (folder / name).is_file()
    for name in ("reports/frames.json", "reports/pairs.json", "plots/gaps.csv"):
        assert (folder / name).is_file()


def fail(folder, stage, *parts):
    """The stage must exit with status 2 and a one-line error, without leaving a table."""
    lines = [line for line in run(folder, stage, status=2).splitlines() if "task/s" not in line and line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    for part in parts:
        assert part in lines[0]
    assert not (folder / "data" / "frames.parquet").exists() and not (folder / "data" / "frames").exists()


def test_empty_folder(workplace):
    folder, _, _ = workplace
    (folder / "data" / "raw" / "ring").mkdir(parents=True)
    fail(folder, "extract_frames", "data/raw/ring", "empty folder")


def test_wrong_number_of_cameras(workplace):
    folder, _, _ = workplace
    scene = write_dynerf(folder / "data" / "raw" / "ring" / "kick", 2, 2)
    np.save(scene / "poses_bounds.npy", poses_bounds(ring_cameras(3)))
    fail(folder, "extract_frames", "kick/poses_bounds.npy", "expected 2 rows", "found 3")


def test_truncated_video(workplace):
    folder, _, _ = workplace
    scene = write_dynerf(folder / "data" / "raw" / "ring" / "kick", 2, 4)
    write_film(scene / "cam00.mp4", np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3), dtype=np.uint8))
    truncate(scene / "cam00.mp4")
    fail(folder, "extract_frames", "kick/cam00.mp4", "1 of 2 files are bad", "expected at most 5%", "frames.json")


def test_unknown_format(workplace):
    folder, params, save = workplace
    params["sources"][0]["format"] = "llff"
    save()
    write_film(folder / "data" / "raw" / "ring" / "a.mp4", gray_film([10]))
    fail(folder, "extract_frames", "llff", "dnerf", "dynerf", "qualisys", "video")


def test_a_stage_without_the_one_before_it(workplace):
    folder, _, _ = workplace
    fail(folder, "build_pairs", "data/frames.parquet", "run the stage before")
    fail(folder, "write_shards", "data/pairs.parquet", "run the stage before")
