"""Synthetic scenes: a person who stays in the middle of a plain set, with a static shadow."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
from grid_scenes import NUM_FRAMES, frame_rows, write_frames
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_evaluation import SETTINGS, make_pipe
from tiny_scenes import SIZE

from fourdistill.evaluation.folder import COLUMNS, score_folder
from fourdistill.evaluation.metrics.backdrop import BackdropReader, estimate_backdrop, to_lab
from fourdistill.evaluation.metrics.feature_spaces import FeatureSpaces
from fourdistill.evaluation.metrics.silhouette import figure_mask, loose_share, score_silhouettes
from fourdistill.evaluation.protocol.command import Command, FrameKey
from fourdistill.evaluation.protocol.frames import FrameReader
from fourdistill.evaluation.report.sheets import write_pairs
from fourdistill.evaluation.scoring import Scorer
from fourdistill.geometry.displacement import Displacement

SIDE = 96
WALL, FLOOR = 226, 212  # sRGB; a shadow leaves 0.52 of the floor's light: 159
TOP, LEGS = (186, 60, 50), (40, 52, 110)
FRAMES = range(9)


def rectangle(size, left, right, top, bottom):
    """Mask (size, size) of a rectangle, whose sides are given as shares of the picture."""
    mask = np.zeros((size, size), bool)
    rows, columns = (slice(round(a * size), round(b * size)) for a, b in ((top, bottom), (left, right)))
    mask[rows, columns] = True
    return mask


def parts(frame, size=SIDE):
    """Masks of one frame by part: trunk and legs are static, an arm swings."""
    swing = 0.02 * frame
    return {
        "top": rectangle(size, 0.4, 0.6, 0.2, 0.5) | rectangle(size, 0.6, 0.8, 0.2 + swing, 0.28 + swing),
        "legs": rectangle(size, 0.42, 0.58, 0.5, 0.8),
        "shadow": rectangle(size, 0.58, 0.95, 0.72, 0.8),
    }


def empty_set(size=SIDE):
    pixels = np.full((size, size, 3), WALL, np.uint8)
    pixels[size // 2 :] = FLOOR
    return pixels


def draw(frame, size=SIDE, top=TOP, legs=LEGS, noise=2.0):
    """One frame (size, size, 3) uint8 with camera noise."""
    pixels, where = empty_set(size), parts(frame, size)
    pixels[where["shadow"]] = 159
    pixels[where["top"]], pixels[where["legs"]] = top, legs
    grain = np.random.default_rng(frame).normal(0, noise, pixels.shape)
    return np.clip(pixels + grain, 0, 255).round().astype(np.uint8)


def film(**clothes):
    return to_lab(np.stack([draw(frame, **clothes) for frame in FRAMES]))


def backdrop_of(frames) -> np.ndarray:
    backdrop = estimate_backdrop(frames)
    assert backdrop is not None
    return backdrop


def figure(frame, size=SIDE):
    return parts(frame, size)["top"] | parts(frame, size)["legs"]


def score(drawn, frame=4, **clothes):
    """Scores of one picture as the answer for one frame, as plain numbers."""
    truth = Image.fromarray(draw(frame, **clothes))
    found = score_silhouettes({"": [Image.fromarray(drawn)]}, [truth], [estimate_backdrop(film(**clothes))])[""]
    return {name.split(".")[1]: float(values[0]) for name, values in found.items()}


def test_the_set_is_found_behind_someone_who_never_leaves():
    found, true = backdrop_of(film()), to_lab(empty_set())
    away = np.abs(found - true).max(2)
    behind = figure(0) & figure(8)
    assert away[~behind & ~parts(0)["shadow"]].max() < 3  # noise at its 80 % quantile
    assert away[behind | parts(0)["shadow"]].max() < 7  # wall and floor differ by 5 and blend there
    assert np.abs(np.median(film(), axis=0) - true).max(2)[behind].min() > 20  # the median shows the person


def test_the_mask_is_the_figure_without_its_shadow():
    backdrop = backdrop_of(film())
    for frame in FRAMES:
        found, true = figure_mask(to_lab(draw(frame)), backdrop), figure(frame)
        assert (found & true).sum() / (found | true).sum() > 0.98
        assert not found[parts(frame)["shadow"] & ~true].any()


def test_a_figure_shows_where_a_shadow_always_lies_and_light_there_is_none():
    backdrop = backdrop_of(film())
    lit = empty_set()
    assert not figure_mask(to_lab(lit), backdrop).any()
    lit[parts(0)["shadow"]] = LEGS
    assert (figure_mask(to_lab(lit), backdrop) == parts(0)["shadow"]).all()


def test_a_furnished_room_has_no_backdrop():
    room = film()
    room[:, :, : SIDE // 3, 2] += 40  # a yellow wall on the left
    assert estimate_backdrop(room) is None
    noise = np.random.default_rng(0).integers(0, 256, (9, SIDE, SIDE, 3), dtype=np.uint8)
    assert estimate_backdrop(to_lab(noise)) is None


def test_known_answers():
    same = score(draw(4))
    assert same == {"iou": 1, "loose": 0, "delta_e": 0}

    legless = draw(4)
    legless[parts(4)["legs"]] = FLOOR
    missing = score(legless)
    share = parts(4)["legs"].sum() / figure(4).sum()
    assert missing["iou"] == pytest.approx(1 - share, abs=0.02)
    assert missing["loose"] == 0 and missing["delta_e"] > 20

    blob = draw(4)
    floating = rectangle(SIDE, 0.05, 0.25, 0.1, 0.2)
    blob[floating] = TOP
    floats = score(blob)
    assert floats["loose"] == pytest.approx(floating.sum() / (floating.sum() + figure(4).sum()), abs=0.01)
    assert floats["delta_e"] == 0 and floats["iou"] == pytest.approx(1 - floats["loose"], abs=0.01)

    nobody = score(empty_set())
    assert (nobody["iou"], nobody["loose"]) == (0, 0) and nobody["delta_e"] > 20


def test_other_clothes_are_another_colour_and_the_same_silhouette():
    other = score(draw(4, top=(40, 150, 70)))
    assert other["iou"] > 0.98 and other["loose"] == 0 and other["delta_e"] > 20
    slightly = score(draw(4, top=(192, 64, 54)))
    assert 0.2 < slightly["delta_e"] < 3


def test_a_difference_of_greys_is_that_of_their_lightness():
    """Sharma et al. 2005, equation 22 without chroma: the difference of L, weighted less away from 50."""

    def lightness(byte):
        return 116 * ((byte / 255 + 0.055) / 1.055) ** (2.4 / 3) - 16

    before, after = lightness(100), lightness(120)
    off = ((before + after) / 2 - 50) ** 2
    expected = (after - before) / (1 + 0.015 * off / np.sqrt(20 + off))
    greys = {"top": (100,) * 3, "legs": (100,) * 3, "noise": 0}
    assert score(draw(4, top=(120,) * 3, legs=(120,) * 3, noise=0), **greys)["delta_e"] == pytest.approx(expected, 1e-2)


def test_clothes_of_the_backdrops_colour_are_not_scored():
    """White trousers disconnect the shoes: the true figure is incomplete and cannot serve as a reference."""

    def booted(frame):
        pixels = draw(frame, legs=(WALL - 8,) * 3)
        pixels[rectangle(SIDE, 0.42, 0.58, 0.75, 0.8)] = (30, 30, 30)
        return pixels

    backdrop = backdrop_of(to_lab(np.stack([booted(frame) for frame in FRAMES])))
    picture = Image.fromarray(booted(4))
    found = score_silhouettes({"": [picture], "other.": [picture]}, [picture], [backdrop])
    assert all(np.isnan(values).all() for scores in found.values() for values in scores.values())
    nobody = Image.fromarray(empty_set())
    assert np.isnan(score_silhouettes({"": [picture]}, [nobody], [backdrop])[""]["silhouette.iou"]).all()


@given(st.integers(4, 20), st.integers(3, 30), st.integers(4, 30))
def test_a_piece_is_loose_when_three_pixels_or_more_are_between(gap_at, gap, far):
    mask = np.zeros((12, 80), bool)
    mask[3:9, :gap_at] = True
    mask[3:9, gap_at + gap : gap_at + gap + far] = True
    small, large = sorted((gap_at, far))
    assert loose_share(mask) == pytest.approx(small / (small + large))
    mask[6, gap_at : gap_at + gap] = True  # a thin connection
    assert loose_share(mask) == 0
    assert loose_share(np.zeros((4, 4), bool)) == 0


@pytest.fixture
def plain_scenes(tmp_path):
    """`kick` (a training scene) and `walk` (a test scene) on the plain set, from four static cameras."""
    rows = frame_rows("kick", "train") + frame_rows("walk", "test")
    for row in rows:
        path = tmp_path / "frames" / row["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(row["frame_index"], SIZE)).save(path, quality=95)
    return SimpleNamespace(folder=tmp_path, rows=rows, table=write_frames(tmp_path / "frames.parquet", rows))


def read_scenes(scenes):
    return FrameReader(scenes.table, scenes.folder / "frames", SIZE)


def test_a_camera_that_moves_has_no_backdrop(plain_scenes):
    rows = [dict(row) for row in plain_scenes.rows]
    for row in rows:
        if row["scene"] == "walk" and row["camera"] == "cam01":
            row["c2w"] = [*row["c2w"][:3], row["c2w"][3] + 0.01 * row["frame_index"], *row["c2w"][4:]]
        if row["camera"] == "cam02":
            row["c2w"] = None  # then the picture's border decides
    write_frames(plain_scenes.table, rows)
    backdrop = BackdropReader(plain_scenes.table, read_scenes(plain_scenes))
    assert backdrop(FrameKey("walk", "cam01", 3)) is None
    assert backdrop(FrameKey("kick", "cam01", 3)) is not None and backdrop(FrameKey("walk", "cam02", 3)) is not None
    assert backdrop(FrameKey("walk", "cam00", 3)) is backdrop(FrameKey("walk", "cam00", 5))


def write_answers(scenes):
    """Write perfect answers to six pairs in two scenes, and the sweep that a folder must have."""
    folder = scenes.folder / "answers"
    folder.mkdir()
    rows = [(scene, "cam00", frame, "") for scene in ("kick", "walk") for frame in (1, 4, 7)]
    rows += [("walk", "cam00", frame, "t") for frame in range(NUM_FRAMES)]
    with (folder / "commands.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number, (scene, camera, frame, sweep) in enumerate(rows):
            truth = scenes.folder / "frames" / scene / camera / f"{frame:06d}.jpg"
            (folder / f"{number}.jpg").write_bytes(truth.read_bytes())
            writer.writerow((f"{number}.jpg", scene, camera, 2, camera, frame, sweep))
    return folder


def test_figures_have_groups_and_intervals_for_every_system(plain_scenes, tiny_base):
    pipe, read = make_pipe(tiny_base), read_scenes(plain_scenes)
    spaces = FeatureSpaces(pipe.vae, pipe.image_encoder, pipe.feature_extractor, SIZE, 4)
    scored = score_folder(
        write_answers(plain_scenes),
        Scorer(read, spaces, plain_scenes.table, plain_scenes.table.with_name("scenes.parquet"), SETTINGS.scores, 0),
        max_gap_s=None,
    )  # fmt: skip
    metrics = scored.summary.metrics
    for group in ("", "known_scene.", "new_scene."):
        names = [f"{group}{name}" for name in ("silhouette.iou", "silhouette.loose", "colour.delta_e")]
        assert [metrics[name] for name in names] == [1, 0, 0]
        assert [metrics[f"{name}.{end}"] for name in names for end in ("ci_low", "ci_high")] == [1, 1, 0, 0, 0, 0]
        copy = f"baseline.copy.{group}"
        assert metrics[f"{copy}silhouette.iou"] < 0.99 and metrics[f"{copy}colour.delta_e"] > 0
        assert metrics[f"ceiling.vae.{group}colour.delta_e"] > 5  # an untrained autoencoder
    assert metrics["silhouette.num_pairs"] == 6
    assert any(remark.startswith("silhouette and colour are of 6 of 6 pairs: those") for remark in scored.remarks())


def test_a_score_that_a_pair_does_not_have_is_an_empty_cell(tmp_path):
    command = Command(
        "time", FrameKey("walk", "cam00", 0), FrameKey("walk", "cam00", 1), Displacement.from_user(0.1), None
    )
    scores = {"silhouette.iou": np.array([np.nan, 0.5])}
    write_pairs(tmp_path / "pairs.csv", [command, command], [1, 2], np.zeros(2, bool), scores)
    rows = list(csv.DictReader((tmp_path / "pairs.csv").open()))
    assert [row["silhouette.iou"] for row in rows] == ["", "0.5"]
