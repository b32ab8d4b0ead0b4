"""Frames of a teacher on their way through pairs, features and shards."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from grid_scenes import frame_rows, write_frames
from PIL import Image
from stage_settings import pair_settings, settings_of
from tiny_scenes import SIZE, ring_cameras

from fourdistill.errors import InputError
from fourdistill.features.files import FeatureReader, encode_frames
from fourdistill.frames.all_frames import ORDER, TeacherFrames, open_frames, read_all_frames
from fourdistill.pairs.build import build_pairs
from fourdistill.pairs.frame_pairs import read_frame_pairs
from fourdistill.shards.loader.batches import make_loader
from fourdistill.shards.write import write_shards
from fourdistill.tables import TEACHER_FRAMES, WEIGHTED_PAIRS, read_table, write_table

CONFIDENCE = 0.75
REAL_GRAY, TAUGHT_GRAY = 40, 200


def draw(folder: Path, rows: list[dict], level: int) -> None:
    for row in rows:
        path = folder / row["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (SIZE, SIZE), (level, level, level)).save(path, quality=95)


def taught_rows() -> list[dict]:
    """A camera of a teacher at the instants of `kick`, half a gap after the first real camera."""
    pose = ring_cameras(8)[1].ravel().tolist()
    of_first = [row for row in frame_rows("kick", "train") if row["camera"] == "cam00"]
    return [
        row | {"camera": "teacher00", "c2w": pose, "origin": "teacher", "confidence": CONFIDENCE}
        | {"path": f"kick/teacher00/{row['frame_index']:06d}.jpg"}
        for row in of_first
    ]  # fmt: skip


def encode(images):
    """Features that tell a frame's gray level."""
    level = np.array([np.asarray(image).mean() / 256 for image in images], np.float32)
    tiles = {"latents": level[:, None, None, None], "image_embeds": level[:, None, None]}
    return {name: np.tile(values, (1, 2, 2, 2)[: values.ndim]) for name, values in tiles.items()}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Real frames of all splits in `kick` and `walk`, and a teacher's of `kick`. Read only."""
    folder = tmp_path_factory.mktemp("data")
    kick, walk = frame_rows("kick", "train"), frame_rows("walk", "val")
    for row in kick:
        row["split"] = "test" if row["camera"] == "cam03" else "train"
    write_frames(folder / "frames.parquet", kick + walk)
    draw(folder / "frames", kick + walk, REAL_GRAY)
    draw(folder / "teacher", taught_rows(), TAUGHT_GRAY)
    write_table(pa.Table.from_pylist(taught_rows(), schema=TEACHER_FRAMES), folder / "teacher.parquet")
    write_table(TEACHER_FRAMES.empty_table(), folder / "none.parquet")
    pairs(folder, folder / "pairs.parquet", TeacherFrames(folder / "teacher.parquet", folder / "teacher"))
    return folder


def pairs(data: Path, out: Path, teacher: TeacherFrames | None) -> Path:
    build_pairs(
        data / "frames.parquet", data / "scenes.parquet", out, out.with_suffix(".json"), out.with_suffix(".csv"),
        pair_settings({"train": 300, "val": 60, "test": 60}, {"time": 1.0, "view": 1.0, "joint": 1.0}),
        settings_of("displacement"), seed=0, teacher=teacher,
    )  # fmt: skip
    return out


def teacher(data: Path, table: str = "teacher.parquet") -> TeacherFrames:
    return TeacherFrames(data / table, data / "teacher")


def test_both_tables_are_one_in_order(data):
    table = read_all_frames(data / "frames.parquet", teacher(data))
    rows = table.to_pylist()
    assert [tuple(row[name] for name in ORDER) for row in rows] == sorted(
        tuple(row[name] for name in ORDER) for row in rows
    )
    assert {(row["camera"][:3], row["origin"], row["confidence"]) for row in rows} == {
        ("cam", "camera", 1.0), ("tea", "teacher", CONFIDENCE),
    }  # fmt: skip


def test_without_frames_of_a_teacher_not_a_byte_of_the_pairs_changes(data, tmp_path):
    written = [
        pairs(data, tmp_path / "off.parquet", None),
        pairs(data, tmp_path / "on.parquet", teacher(data, "none.parquet")),
    ]
    for suffix in (".parquet", ".json", ".csv"):
        first, second = (hashlib.sha256(path.with_suffix(suffix).read_bytes()).hexdigest() for path in written)
        assert first == second
    assert "weight" not in pq.read_schema(written[0]).names


def test_a_teacher_gives_targets_of_training_alone(data):
    rows = read_table(data / "pairs.parquet", WEIGHTED_PAIRS).to_pylist()
    taught = [row for row in rows if row["target_camera"] == "teacher00"]
    assert {row["split"] for row in taught} == {"train"} and {row["kind"] for row in taught} == {"view", "joint"}
    assert not [row for row in rows if row["source_camera"] == "teacher00"]
    assert {row["weight"] for row in taught} == {CONFIDENCE}
    assert {row["weight"] for row in rows if row not in taught} == {1.0}
    assert {round(abs(np.degrees(row["delta_azimuth"]))) for row in taught} == {45, 135}  # real ones: 90 and 180


def test_weights_reach_the_prior(data):
    found = read_frame_pairs(data / "pairs.parquet", "train")
    names = [found.keys[index][1] for index in found.target]
    assert found.weight.tolist() == [CONFIDENCE if name == "teacher00" else 1.0 for name in names]
    assert read_frame_pairs(data / "pairs.parquet", "val").weight.tolist() == [1.0] * 60


def test_features_and_shards_are_of_the_right_frames(data, tmp_path):
    encode_frames(
        data / "frames.parquet", data / "frames", tmp_path / "features", encode,
        settings_of("encode_frames", jobs=1), teacher=teacher(data),
    )  # fmt: skip
    features = FeatureReader(tmp_path / "features")
    for camera, level in (("cam00", REAL_GRAY), ("teacher00", TAUGHT_GRAY)):
        assert features.read("kick", camera, 3, "latents") == pytest.approx(level / 256, abs=0.01)
    write_shards(
        data / "pairs.parquet", data / "frames", tmp_path / "features", tmp_path / "shards",
        settings_of("write_shards", max_pairs=None, jobs=1), teacher=teacher(data),
    )  # fmt: skip
    batch = next(iter(make_loader(tmp_path / "shards", "train", 300, seed=0, shuffle=False, epochs=1, images=True)))
    taught = (batch.weight == CONFIDENCE).numpy()
    assert 0 < taught.sum() < 300 and (batch.weight[~taught] == 1).all()
    assert batch.target_images is not None and batch.source_images is not None
    levels = batch.target_images.float().mean((1, 2, 3)).numpy()
    np.testing.assert_allclose(levels, np.where(taught, TAUGHT_GRAY, REAL_GRAY), atol=2)
    np.testing.assert_allclose(batch.target_latents[:, 0, 0, 0], levels / 256, atol=0.01)
    assert batch.source_images.float().mean((1, 2, 3)).numpy() == pytest.approx(REAL_GRAY, abs=2)


def test_a_missing_table_is_one_line(data, tmp_path):
    with pytest.raises(InputError, match=r"none\.parquet"):
        open_frames(data / "frames", TeacherFrames(tmp_path / "none.parquet", tmp_path))
