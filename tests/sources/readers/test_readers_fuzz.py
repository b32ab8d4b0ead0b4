"""Damaged and random files: every parser raises `InputError` (or `VideoError`, for one file among many).

Each example is a whole scene with one damaged file: bytes are changed, cut, repeated or moved, numbers and words of
texts are replaced by awkward ones, or the file holds random bytes.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from format_writers import (
    CENTRAL,
    GENERAL,
    write_colmap_binary,
    write_colmap_text,
    write_dnerf,
    write_nerfies,
    write_nerfstudio,
    write_qualisys,
    write_realestate10k,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_scenes import gray_film, write_film
from tiny_scenes import write_dynerf as write_gray_dynerf

from fourdistill.errors import InputError
from fourdistill.sources.readers import SourceFolder, read_source
from fourdistill.video.pictures import read_picture
from fourdistill.video.probe import VideoError, probe_video

EXAMPLES = int(os.environ.get("FOURDISTILL_FUZZ", "1"))  # multiplier
AWKWARD = (
    b"0", b"-1", b"1", b"1e999", b"-1e308", b"nan", b"NaN", b"null", b"true", b"[]", b"{}", b'""', b'"x"', b"..", b"/",
    b"9" * 30, b"9" * 5000, b"0.5", b"\x00", b"\xff", b"\xe2\x80\xa8", b"\n", b" ", b"#", b"[" * 3000, b"<a>" * 2000,
)  # fmt: skip
WORD = re.compile(rb"[A-Za-z0-9_.+\-/]+")


def write_stereo(folder: Path) -> None:
    """A rig: every frame has pictures of all cameras."""
    write_colmap_text(folder, GENERAL)
    lines = [
        f"{5 + instant} 1 1 0 0 0 0 0 0 4 " + " ".join(f"CAMERA {c + 1} {100 - 10 * c - 2 * instant}" for c in range(4))
        for instant in range(4)
    ]
    (folder / "sparse" / "0" / "frames.txt").write_text("# Frame list\n" + "\n".join(lines) + "\n")


def write_ucf101(folder: Path) -> None:
    for name in ("YoYo_g01_c01", "YoYo_g02_c01"):
        (folder / "YoYo").mkdir(parents=True, exist_ok=True)
        (folder / "YoYo" / f"v_{name}.avi").write_bytes(b"")
    (folder / "ucfTrainTestlist").mkdir()
    (folder / "ucfTrainTestlist" / "trainlist01.txt").write_text("YoYo/v_YoYo_g01_c01.avi 1\n")
    (folder / "ucfTrainTestlist" / "testlist01.txt").write_text("YoYo/v_YoYo_g02_c01.avi\n")


def write_synchronised(folder: Path) -> None:
    write_gray_dynerf(folder, 2, 2)
    (folder / "sync.csv").write_text("camera,offset_s\ncam01,0.25\n")


TARGETS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "dnerf": ("dnerf", lambda folder: write_dnerf(folder, CENTRAL), "transforms_train.json"),
    "nerfstudio": ("nerfstudio", lambda folder: write_nerfstudio(folder, GENERAL, per_frame=True), "transforms.json"),
    "nerfies-dataset": ("nerfies", lambda folder: write_nerfies(folder, GENERAL), "dataset.json"),
    "nerfies-metadata": ("nerfies", lambda folder: write_nerfies(folder, GENERAL), "metadata.json"),
    "nerfies-camera": ("nerfies", lambda folder: write_nerfies(folder, GENERAL), "camera/cam1_000002.json"),
    "colmap-cameras-text": ("colmap", lambda folder: write_colmap_text(folder, GENERAL), "sparse/0/cameras.txt"),
    "colmap-images-text": ("colmap", lambda folder: write_colmap_text(folder, GENERAL), "sparse/0/images.txt"),
    "colmap-frames-text": ("colmap", write_stereo, "sparse/0/frames.txt"),
    "colmap-cameras": ("colmap", lambda folder: write_colmap_binary(folder, GENERAL), "sparse/0/cameras.bin"),
    "colmap-images": ("colmap", lambda folder: write_colmap_binary(folder, GENERAL), "sparse/0/images.bin"),
    "qualisys": ("qualisys", lambda folder: write_qualisys(folder, CENTRAL), "calibration/Calib.qca.txt"),
    "realestate10k": ("realestate10k", lambda folder: write_realestate10k(folder / "x", GENERAL), "scene.txt"),
    "dynerf": ("dynerf", write_synchronised, "poses_bounds.npy"),
    "sync": ("dynerf", write_synchronised, "sync.csv"),
    "ucf101": ("ucf101", write_ucf101, "ucfTrainTestlist/trainlist01.txt"),
}


@st.composite
def damaged(draw: Any, whole: bytes) -> bytes:
    """`whole` after one to four changes, or random bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at, end = sorted(draw(st.tuples(st.integers(0, len(data)), st.integers(0, len(data)))))
        match draw(st.sampled_from(("word", "word", "flip", "flip", "cut", "drop", "repeat", "insert"))):
            case "word":  # replace a number or name of a text
                if found := WORD.search(data, at):
                    data[found.start() : found.end()] = draw(st.sampled_from(AWKWARD))
            case "flip" if at < len(data):
                data[at] = draw(st.integers(0, 255))
            case "cut":
                del data[at:]
            case "drop":
                del data[at : min(end, at + 40)]
            case "repeat":
                data[at:at] = data[at : min(end, at + 400)]
            case "insert":
                data[at:at] = draw(st.one_of(st.binary(max_size=16), st.sampled_from(AWKWARD)))
    return bytes(data)


def fuzz(num: int, whole: bytes, check: Callable[[bytes], None]) -> None:
    """Call `check` on `num` damaged copies."""

    @settings(
        max_examples=num * EXAMPLES,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        database=None,
    )
    @given(damaged(whole))
    def run(data: bytes) -> None:
        check(data)

    run()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.filterwarnings("error::RuntimeWarning")  # the error is the only message
def test_damaged_descriptions(tmp_path, target):
    format_name, write, name = TARGETS[target]
    folder = tmp_path / "scene"
    folder.mkdir()
    write(folder)
    assert read_source(SourceFolder(folder, format_name))
    path = folder / name

    def check(data: bytes) -> None:
        path.write_bytes(data)
        try:
            assert read_source(SourceFolder(folder, format_name))
        except InputError as error:
            message = str(error)
            assert "\n" not in message and len(message) < 2000 and message.startswith(str(folder)), message

    fuzz(60, path.read_bytes(), check)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp"])
def test_damaged_pictures(tmp_path, suffix):
    path = tmp_path / f"picture{suffix}"
    Image.fromarray(GENERAL.picture(0, 0)[:24, :24]).save(path)

    def check(data: bytes) -> None:
        path.write_bytes(data)
        try:
            assert read_picture(path, "white").mode == "RGB"
        except VideoError as error:
            assert "\n" not in str(error)

    fuzz(40, path.read_bytes(), check)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".ts"])
def test_damaged_films(tmp_path, suffix):
    path = tmp_path / f"film{suffix}"
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    write_film(path, gray_film([50, 90, 130, 170]), codec=codec)

    def check(data: bytes) -> None:
        path.write_bytes(data)
        try:
            info = probe_video(path)
            assert len(info.timestamps_s) and info.width > 0
        except VideoError as error:
            assert "\n" not in str(error)

    fuzz(30, path.read_bytes(), check)
