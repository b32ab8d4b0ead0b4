"""Every posed format, written by `format_writers`, is read back with its original pixels, poses and displacements."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from format_writers import CENTRAL, FORMATS, GENERAL, LENS, Capture, Format
from PIL import Image
from stage_settings import frame_settings, pair_settings, settings_of

from fourdistill.frames.extract import extract_frames
from fourdistill.geometry.scene_frame import fit_scene_frame
from fourdistill.pairs.build import build_pairs
from fourdistill.scene import Camera, Film, Pictures
from fourdistill.sources.readers import SourceFolder, read_source
from fourdistill.tables import FRAMES, PAIRS, read_table, to_matrices, write_table

DISTORTED = [form for form in FORMATS if form.lens]


def name_of(form: Format) -> str:
    return form.write.__name__.removeprefix("write_")


IDS = [name_of(form) for form in FORMATS]
SIZE = 120  # of the JPEGs, scaled from squares of 80 pixels


def cameras_of(film: Film) -> list[tuple[int, Camera]]:
    """(instant, camera) of a video, as read."""
    if isinstance(film, Pictures):
        return [(picture.index, picture.camera) for picture in film.pictures if picture.camera is not None]
    if film.track:
        return [(index, camera) for index, (_, camera) in enumerate(film.track)]
    return [(0, film.camera)] if film.camera is not None else []


def seen(K: np.ndarray, c2w: np.ndarray, points: np.ndarray) -> np.ndarray:
    """World points (P, 3) => pixels (P, 2), as an independent implementation."""
    in_camera = (points - c2w[:3, 3]) @ c2w[:3, :3]
    return in_camera[:, :2] / in_camera[:, 2:] * [K[0, 0], K[1, 1]] + K[:2, 2]


def capture_of(form: Format) -> Capture:
    return GENERAL if form.general else CENTRAL


def owner(form: Format, capture: Capture, camera_number: int, instant: int) -> int:
    """The camera of the capture that took a row's picture."""
    return instant if form.moving else camera_number


def extract(folder, source: SourceFolder, size: int = SIZE):
    """The frames table of a source, as rows."""
    table = folder / "frames.parquet"
    extract_frames(
        read_source(source),
        folder / "frames",
        table,
        table.with_name("scenes.parquet"),
        folder / "report.json",
        frame_settings(size=size, jpeg_quality=1),
    )
    return table


def centroid(image: np.ndarray, near: np.ndarray, radius: float = 5.0) -> np.ndarray:
    """Position (2,) of the dot near a pixel, from the pixels that differ from the picture's gray."""
    rows, columns = np.indices(image.shape) + 0.5
    weight = np.abs(image - np.median(image))
    weight = np.where((np.hypot(columns - near[0], rows - near[1]) < radius) & (weight > 6), weight, 0)
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


def visible(pixels: np.ndarray, width: int, height: int, margin: float = 6) -> np.ndarray:
    """Which dots (P,) are completely visible and apart from the others."""
    inner = (pixels > margin).all(1) & (pixels < np.array([width, height]) - margin).all(1)
    apart = np.linalg.norm(pixels[:, None] - pixels[None], axis=-1) + 1e3 * np.eye(len(pixels))
    return inner & (apart.min(1) > 2 * margin)


@pytest.mark.parametrize("form", FORMATS, ids=IDS)
def test_the_readers_cameras_see_points_where_they_were_filmed(tmp_path, form):
    capture = capture_of(form)
    form.write(tmp_path / "scene", capture)
    (scene,) = read_source(SourceFolder(tmp_path, form.name))
    assert scene.name == "scene" and scene.pose_source
    checked = 0
    for number, film in enumerate(scene.videos[:1] if form.moving else scene.videos):
        for instant, camera in cameras_of(film):
            index = owner(form, capture, number, instant)
            np.testing.assert_allclose(seen(camera.K, camera.c2w, capture.dots), capture.pixels(index), atol=1e-3)
            assert camera.size == capture.size and camera.distortion is None
            checked += 1
    assert checked >= len(capture.c2w)


@pytest.mark.parametrize("form", DISTORTED, ids=[name_of(form) for form in DISTORTED])
def test_distortion_reaches_the_camera(tmp_path, form):
    capture = replace(capture_of(form), distortion=LENS)
    form.write(tmp_path / "scene", capture)
    (scene,) = read_source(SourceFolder(tmp_path, form.name))
    for film in scene.videos:
        for _, camera in cameras_of(film):
            assert camera.distortion is not None
            np.testing.assert_allclose(camera.distortion[:4], LENS)
            assert not any(camera.distortion[4:])


@pytest.mark.parametrize(
    ("form", "lens"),
    [(form, False) for form in FORMATS] + [(form, True) for form in DISTORTED],
    ids=[*IDS, *(f"{name_of(form)}-distorted" for form in DISTORTED)],
)
def test_the_frames_show_points_where_their_cameras_see_them(tmp_path, form, lens):
    """This holds after the square crop, the resizing and, for distorting lenses, the undistortion."""
    capture = replace(capture_of(form), distortion=LENS) if lens else capture_of(form)
    form.write(tmp_path / "raw" / "scene", capture)
    path = extract(tmp_path, SourceFolder(tmp_path / "raw", form.name, background="black"))
    table = read_table(path, FRAMES)
    K, c2w = to_matrices(table["K"], (3, 3)), to_matrices(table["c2w"], (4, 4))
    names = sorted(set(table["camera"].to_pylist()))
    checked = 0
    for row, matrix, pose in zip(table.to_pylist(), K, c2w, strict=True):
        index = owner(form, capture, names.index(row["camera"]), row["frame_index"])
        if form.name == "dnerf" and row["split"] != "train":
            continue  # the pictures of val and test are empty
        np.testing.assert_allclose(pose, capture.c2w[index], atol=1e-9)
        ideal = capture.pixels(index, ideal=True)
        left, top = (np.array(capture.size) - 80) / 2
        expected = (ideal - [left, top]) * SIZE / 80
        np.testing.assert_allclose(seen(matrix, pose, capture.dots), expected, atol=1e-3)
        image = np.asarray(Image.open(tmp_path / "frames" / row["path"]).convert("L")).astype(float)
        for pixel in expected[visible(expected, SIZE, SIZE)]:
            np.testing.assert_allclose(centroid(image, pixel), pixel, atol=0.1)
            checked += 1
        if form.name != "dnerf":
            gray = 10 + 15 * (row["frame_index"])
            assert abs(np.median(image) - gray) < 3  # frame of the right instant
    assert checked >= 8


@pytest.fixture(scope="module")
def displacements(tmp_path_factory):
    """Relative poses in pairs.parquet of each format: (source, target) cameras => relative_pose (3, 4)."""
    found = []
    for form in FORMATS:
        folder = tmp_path_factory.mktemp(form.name)
        capture = capture_of(form)
        form.write(folder / "raw" / "scene", capture)
        table = extract(folder, SourceFolder(folder / "raw", form.name), size=32)
        frames = read_table(table, FRAMES).to_pylist()
        if form.name == "dnerf":  # held-out pictures have other poses at the first instant
            kept = [row["split"] == "train" for row in frames]
            write_table(read_table(table, FRAMES).filter(pa.array(kept)), table)
        build_pairs(
            table, table.with_name("scenes.parquet"), folder / "pairs", folder / "p.json", folder / "g.csv",
            pair_settings({"train": 600}, {"view": 1, "joint": 1}), settings_of("displacement"), seed=0,
        )  # fmt: skip
        names = sorted({row["camera"] for row in frames})
        poses = {}
        pairs = read_table(folder / "pairs", PAIRS)
        for pair, pose in zip(pairs.to_pylist(), to_matrices(pairs["relative_pose"], (3, 4)), strict=True):
            ends = [(names.index(pair[f"{end}_camera"]), pair[f"{end}_frame"]) for end in ("source", "target")]
            poses[tuple(owner(form, capture, *end) for end in ends)] = pose
        found.append(poses)
    return found


def test_every_format_gives_the_same_displacements(displacements):
    capture = CENTRAL
    frame = fit_scene_frame(capture.c2w)
    assert frame is not None
    shared = 0
    for form, poses in zip(FORMATS, displacements, strict=True):
        assert len(poses) >= 6, form.name
        for (source, target), pose in poses.items():
            expected = (np.linalg.inv(capture.c2w[source]) @ capture.c2w[target])[:3]
            expected[:, 3] /= frame.scale
            np.testing.assert_allclose(pose, expected, atol=1e-5, err_msg=form.name)
            shared += (source, target) in displacements[0]
    assert shared > 12 * len(FORMATS) / 2
