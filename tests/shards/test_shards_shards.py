import hashlib
import io
import json
import tarfile
from dataclasses import fields
from itertools import chain

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image
from stage_settings import frame_settings, pair_settings, settings_of, split_rule
from tiny_scenes import SIZE, write_dynerf
from webdataset import WebDataset  # pyright: ignore[reportAttributeAccessIssue]  # exported lazily

from fourdistill.errors import InputError
from fourdistill.features.files import FeatureReader, encode_frames
from fourdistill.frames.extract import extract_frames
from fourdistill.geometry.displacement import STANDING_STILL
from fourdistill.pairs.build import build_pairs
from fourdistill.shards.loader.batches import make_loader
from fourdistill.shards.write import write_shards
from fourdistill.sources.readers import SourceFolder, read_source
from fourdistill.tables import FRAMES, PAIRS, read_table

ENCODE = settings_of("encode_frames", batch_size=4, jobs=1)
WRITE = settings_of("write_shards", shard_size_mb=0.1, max_pairs=None, jobs=1)
WITHOUT_FEATURES = settings_of("write_shards", shard_size_mb=1, max_pairs=None, jobs=1, features=False)

NUM_TRAIN, NUM_TEST = 70, 20


def encode(images):
    """Features that identify a frame: its mean level, over 256."""
    level = np.array([np.asarray(image).mean() / 256 for image in images], np.float32)
    return {
        "latents": np.tile(level[:, None, None, None], (1, 4, 2, 2)),
        "image_embeds": np.tile(level[:, None, None], (1, 5, 6)),
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Outputs of all data stages, run once. Read only."""
    root = tmp_path_factory.mktemp("data")
    for seed, name in enumerate(("kick", "walk")):
        write_dynerf(root / "raw" / name, 3, 6, caption="a gray wall" if seed == 0 else None, seed=seed)
    scenes = read_source(SourceFolder(root / "raw", "dynerf"))
    split = split_rule(test_cameras=["cam01"])
    extract_frames(
        scenes,
        root / "frames",
        root / "frames.parquet",
        root / "scenes.parquet",
        root / "frames.json",
        frame_settings(size=SIZE, split=split),
    )
    build_pairs(
        root / "frames.parquet",
        root / "scenes.parquet",
        root / "pairs.parquet",
        root / "pairs.json",
        root / "gaps.csv",
        pair_settings({"train": NUM_TRAIN, "test": NUM_TEST}, {"time": 1, "view": 1, "joint": 1}),
        settings_of("displacement"),
        seed=0,
    )
    encode_frames(
        root / "frames.parquet",
        root / "frames",
        root / "features",
        encode,
        ENCODE,
    )
    write_shards(
        root / "pairs.parquet",
        root / "frames",
        root / "features",
        root / "shards",
        WRITE,
    )
    return root


def level_of(scene, camera, frame):
    """Gray level in the videos of `write_dynerf`; extraction may change it by a level or two."""
    return (10 + 20 * frame + int(camera[3:])) / 256


def test_features_are_those_of_the_frames(data):
    reader = FeatureReader(data / "features")
    for row in read_table(data / "frames.parquet", FRAMES).to_pylist():
        key = (row["scene"], row["camera"], row["frame_index"])
        latents, embeds = reader.read(*key, "latents"), reader.read(*key, "image_embeds")
        assert latents.shape == (4, 2, 2) and embeds.shape == (5, 6)
        assert latents.dtype == embeds.dtype == np.float16
        np.testing.assert_allclose(latents, level_of(*key), atol=0.01)
        np.testing.assert_allclose(embeds, level_of(*key), atol=0.01)


def test_features_that_are_not_there(data, tmp_path):
    with pytest.raises(InputError, match=r"kick.cam00\.safetensors: frame_index: expected frame 99"):
        FeatureReader(data / "features").read("kick", "cam00", 99, "latents")
    with pytest.raises(InputError, match=r"cam00\.safetensors: expected features of encode_frames"):
        FeatureReader(tmp_path).read("kick", "cam00", 0, "latents")


def test_features_beyond_half_precision_are_an_error(data, tmp_path):
    def huge(images):
        return {name: values * 1e6 for name, values in encode(images).items()}

    with pytest.raises(InputError, match="kick/cam00: latents: expected finite values within fp16"):
        encode_frames(
            data / "frames.parquet",
            data / "frames",
            tmp_path / "features",
            huge,
            ENCODE,
        )
    assert not list(tmp_path.iterdir())


def test_stock_webdataset_reads_the_tars(data):
    index = json.loads((data / "shards" / "index.json").read_text())
    names = [entry["name"] for entry in index["shards"] if entry["split"] == "train"]
    assert len(names) > 1  # the size limit takes effect
    assert names == [f"train-{number:06d}.tar" for number in range(len(names))]
    last = len(names) - 1
    samples = list(WebDataset(f"{data}/shards/train-{{000000..{last:06d}}}.tar", shardshuffle=False))
    pairs = [row for row in read_table(data / "pairs.parquet", PAIRS).to_pylist() if row["split"] == "train"]
    assert len(samples) == len(pairs) == NUM_TRAIN
    for sample, pair in zip(samples, pairs, strict=True):
        assert json.loads(sample["json"]) == pair
        for end, features in (
            ("source", "source_embeds.npy"), ("target", "target_latents.npy")
        ):  # fmt: skip
            path = data / "frames" / pair["scene"] / pair[f"{end}_camera"] / f"{pair[f'{end}_frame']:06d}.jpg"
            assert sample[f"{end}.jpg"] == path.read_bytes()
            level = level_of(pair["scene"], pair[f"{end}_camera"], pair[f"{end}_frame"])
            np.testing.assert_allclose(np.load(io.BytesIO(sample[features])), level, atol=0.01)


def test_the_index_counts(data):
    index = json.loads((data / "shards" / "index.json").read_text())
    assert sorted(path.name for path in (data / "shards").iterdir()) == sorted(
        ["index.json", *(entry["name"] for entry in index["shards"])]
    )
    for entry in index["shards"]:
        path = data / "shards" / entry["name"]
        assert path.stat().st_size == entry["bytes"]
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        assert sum(member.name.endswith(".json") for member in members) == entry["samples"]
        for member in members:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname, member.mode) == (
                (0, 0, 0, "", "", 0o644)
            )  # no trace of the machine
    assert sum(entry["samples"] for entry in index["shards"]) == NUM_TRAIN + NUM_TEST


def test_two_runs_give_the_same_bytes(data, tmp_path):
    encode_frames(
        data / "frames.parquet",
        data / "frames",
        tmp_path / "features",
        encode,
        ENCODE,
    )
    write_shards(
        data / "pairs.parquet",
        data / "frames",
        tmp_path / "features",
        tmp_path / "shards",
        WRITE,
    )
    for folder in ("features", "shards"):
        files = [sorted(path.relative_to(root) for path in (root / folder).rglob("*.*")) for root in (data, tmp_path)]
        assert files[0] == files[1]
        for path in files[0]:
            assert (data / path).read_bytes() == (tmp_path / path).read_bytes(), path


def test_batches_hold_what_the_pairs_say(data):
    pairs = {row["pair_id"]: row for row in read_table(data / "pairs.parquet", PAIRS).to_pylist()}
    seen = []
    for batch in make_loader(data / "shards", "train", 16, seed=0, shuffle=True, epochs=1):
        num = len(batch.pair_id)
        assert batch.target_latents.shape == (num, 4, 2, 2) and batch.target_latents.dtype == torch.float16
        assert batch.source_embeds.shape == (num, 5, 6) and batch.source_embeds.dtype == torch.float16
        moved = batch.displacement
        assert moved.relative_pose.shape == (num, 12) and moved.azimuth.shape == moved.time.shape == (num,)
        assert moved.time.dtype == moved.relative_pose.dtype == torch.float32
        assert moved.has_time.dtype == moved.has_view.dtype == torch.bool and batch.pair_id.dtype == torch.int64
        for i, pair_id in enumerate(batch.pair_id.tolist()):
            pair = pairs[pair_id]
            assert pair["split"] == "train"
            for end, tensor in (("source", batch.source_embeds), ("target", batch.target_latents)):
                level = level_of(pair["scene"], pair[f"{end}_camera"], pair[f"{end}_frame"])
                torch.testing.assert_close(tensor[i].float(), torch.full(tensor[i].shape, level), atol=0.01, rtol=0)
            assert batch.caption[i] == (pair["caption"] or "")
            assert moved.has_time[i] == (pair["kind"] in ("time", "joint"))
            assert moved.has_view[i] == (pair["kind"] in ("view", "joint"))
            assert moved.time[i].item() == pytest.approx(-pair["normalized_gap"])
            np.testing.assert_allclose(moved.relative_pose[i], pair["relative_pose"] or STANDING_STILL)
            delta = [pair[f"delta_{name}"] or 0 for name in ("azimuth", "elevation", "radius")]
            np.testing.assert_allclose([moved.azimuth[i], moved.elevation[i], moved.radius[i]], delta)
        seen += batch.pair_id.tolist()
    assert len(seen) == NUM_TRAIN and set(seen) == {i for i, pair in pairs.items() if pair["split"] == "train"}


def ids(loader):
    return [batch.pair_id.tolist() for batch in loader]


def test_order_is_a_matter_of_the_seed(data):
    shards = data / "shards"
    plain = ids(make_loader(shards, "train", 16, seed=0, shuffle=False, epochs=1))
    assert plain == [list(range(start, min(start + 16, NUM_TRAIN))) for start in range(0, NUM_TRAIN, 16)]
    loader = make_loader(shards, "train", 16, seed=0, shuffle=True, epochs=2)
    first, again = ids(loader), ids(loader)
    assert first == again
    assert first != ids(make_loader(shards, "train", 16, seed=1, shuffle=True, epochs=2))
    flat = list(chain.from_iterable(first))
    assert sorted(flat[:NUM_TRAIN]) == sorted(flat[NUM_TRAIN:]) == list(range(NUM_TRAIN))
    assert flat[:NUM_TRAIN] != flat[NUM_TRAIN:]  # another order in each epoch
    assert [len(batch) for batch in first] == [16] * 8 + [12]  # only the last is smaller


def test_without_epochs_there_is_no_end_and_no_small_batch(data):
    loader = iter(make_loader(data / "shards", "test", 16, seed=0, shuffle=True))
    assert [len(next(loader).pair_id) for _ in range(10)] == [16] * 10


def test_workers_share_the_tars(data):
    seen = ids(make_loader(data / "shards", "train", 16, seed=0, shuffle=True, epochs=1, num_workers=2))
    assert sorted(chain.from_iterable(seen)) == list(range(NUM_TRAIN))


def test_more_workers_than_tars(data):
    """A worker without a tar would have nothing to do, and could leave a process idle."""
    for workers, processes in ((9, 1), (3, 3)):
        with pytest.raises(InputError, match="expected at least 9 shards of split test, one for each worker"):
            make_loader(data / "shards", "test", 4, seed=0, shuffle=True, num_workers=workers, world_size=processes)


def test_an_empty_tar_is_an_error_not_an_endless_loop(data, tmp_path):
    folder = copy_index(data, tmp_path / "shards", lambda index: index.update(shards=index["shards"][:1]))
    with tarfile.open(folder / "train-000000.tar", "w"):
        pass
    with pytest.raises(
        InputError, match=r"train-000000\.tar: skipped after 0 of 18 samples: ReadError: ends after 10240 bytes"
    ):
        next(iter(make_loader(folder, "train", 4, seed=0, shuffle=True)))


def test_images_only_when_asked_for(data):
    batch = next(iter(make_loader(data / "shards", "train", 4, seed=0, shuffle=False)))
    assert batch.source_images is None and batch.target_images is None
    batch = next(iter(make_loader(data / "shards", "train", 4, seed=0, shuffle=False, images=True)))
    assert batch.source_images is not None and batch.source_images.shape == (4, 3, SIZE, SIZE)
    pair = read_table(data / "pairs.parquet", PAIRS).to_pylist()[0]
    path = data / "frames" / pair["scene"] / pair["source_camera"] / f"{pair['source_frame']:06d}.jpg"
    np.testing.assert_array_equal(batch.source_images[0].permute(1, 2, 0), np.asarray(Image.open(path)))
    assert {field.name for field in fields(batch)} >= {"target_latents", "source_embeds", "pair_id"}


def test_shards_without_features(data, tmp_path):
    write_shards(
        data / "pairs.parquet",
        data / "frames",
        "",
        tmp_path / "shards",
        WITHOUT_FEATURES,
    )
    sample = next(iter(WebDataset(f"{tmp_path}/shards/train-000000.tar", shardshuffle=False)))
    assert {key for key in sample if not key.startswith("__")} == {"json", "source.jpg", "target.jpg"}
    with pytest.raises(InputError, match=r"index\.json: features: expected shards with features"):
        make_loader(tmp_path / "shards", "train", 4, seed=0, shuffle=False)


def test_a_frame_that_is_gone_leaves_no_shards(data, tmp_path):
    with pytest.raises(InputError, match=r"\.jpg: expected a frame of extract_frames"):
        write_shards(
            data / "pairs.parquet",
            tmp_path / "frames",
            "",
            tmp_path / "shards",
            WITHOUT_FEATURES,
        )
    assert not list(tmp_path.iterdir())


def copy_index(data, folder, change):
    index = json.loads((data / "shards" / "index.json").read_text())
    change(index)
    folder.mkdir(exist_ok=True)
    (folder / "index.json").write_text(json.dumps(index))
    return folder


def correct_sizes(folder):
    """Update the sizes of the tars in the index, and drop their numbers of samples."""
    index = json.loads((folder / "index.json").read_text())
    for entry in index["shards"]:
        entry["bytes"] = (folder / entry["name"]).stat().st_size
        del entry["samples"]
    (folder / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("keep_size", [False, True])
def test_a_damaged_tar_is_one_clear_line(data, tmp_path, keep_size):
    folder = copy_index(data, tmp_path / "shards", lambda index: index.update(shards=index["shards"][:1]))
    whole = (data / "shards" / "train-000000.tar").read_bytes()
    (folder / "train-000000.tar").write_bytes(whole[: len(whole) // 2] if not keep_size else b"\xff" * len(whole))
    whole_loss = "skipped after 0 of 18 samples: ReadError"
    half_loss = r"(skipped after \d+ of 18 samples: ReadError|sample \d+: skipped: not as write_shards writes it)"
    expected = r"train-000000\.tar: " + (whole_loss if keep_size else half_loss)
    with pytest.raises(InputError, match=expected):
        list(make_loader(folder, "train", 4, seed=0, shuffle=False, epochs=1))


def test_the_index_holds_checksums(data):
    for entry in json.loads((data / "shards" / "index.json").read_text())["shards"]:
        assert entry["sha256"] == hashlib.sha256((data / "shards" / entry["name"]).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda index: index["shards"][0].update(name="../../etc/passwd"), "expected names such as train-000000.tar"),
        (lambda index: index["shards"][0].update(name=7), "expected names such as"),
        (lambda index: None, r"train-000000\.tar: skipped after 0 of 18 samples: FileNotFoundError"),
        (lambda index: index.pop("shards"), "expected the index that write_shards writes"),
        (lambda index: index.update(shards=[]), "expected shards of split train"),
        (lambda index: index["shards"][0].update(samples=-1), "samples: expected a count, found -1"),
        (lambda index: index["shards"][0].update(sha256="zz"), "sha256: expected 64 hexadecimal digits"),
    ],
)
def test_an_index_is_not_trusted(data, tmp_path, change, expected):
    with pytest.raises(InputError, match=expected):
        next(iter(make_loader(copy_index(data, tmp_path / "shards", change), "train", 4, seed=0, shuffle=False)))


def test_nothing_is_unpickled(data, tmp_path):
    """A tar with an object array instead of features is refused, not executed."""
    folder = copy_index(data, tmp_path / "shards", lambda index: index.update(shards=index["shards"][:1]))
    evil = io.BytesIO()
    np.save(evil, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    pair = read_table(data / "pairs.parquet", PAIRS).to_pylist()[0]
    members = {
        "json": json.dumps(pair).encode(),
        "source_embeds.npy": evil.getvalue(),
        "target_latents.npy": evil.getvalue(),
    }
    with tarfile.open(folder / "train-000000.tar", "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(f"000000000.{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    correct_sizes(folder)
    with pytest.raises(
        InputError, match=r"train-000000\.tar: sample 000000000: skipped: not as write_shards writes it"
    ):
        next(iter(make_loader(folder, "train", 4, seed=0, shuffle=False)))


def test_splits_are_known(data):
    with pytest.raises(InputError, match="split: expected one of train, val, test"):
        make_loader(data / "shards", "dev", 4, seed=0, shuffle=False)
    with pytest.raises(InputError, match=r"expected shards of split val.*num_pairs"):
        make_loader(data / "shards", "val", 4, seed=0, shuffle=False)


@pytest.mark.parametrize("name", ["other/train-000000.tar", "notes.json", "train-000000.txt"])
def test_what_is_no_set_at_an_address_is_never_removed(data, name):
    store = fsspec.filesystem("memory")
    store.pipe({f"/crowded/data/{name}": b"mine", "/crowded/data/index.json": b"{}"})
    with pytest.raises(InputError, match="expected nothing but an older set"):
        write_shards(
            data / "pairs.parquet",
            data / "frames",
            "",
            "memory://crowded/data",
            WITHOUT_FEATURES,
        )
    assert store.cat_file(f"/crowded/data/{name}") == b"mine"
    store.rm("/crowded", recursive=True)
