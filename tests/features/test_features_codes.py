"""Image embeddings stored as codes: from frames to features, shards and training batches, on disk and on S3."""

import json
import shutil
from types import SimpleNamespace

import fsspec
import numpy as np
import pytest
import torch
from s3_server import BUCKET, credentials, running_s3
from safetensors.torch import load_file, save_file
from stage_settings import frame_settings, pair_settings, settings_of, split_rule
from tiny_scenes import SIZE, write_dynerf

from fourdistill.errors import InputError
from fourdistill.features.codes import CODEC
from fourdistill.features.files import FeatureReader, encode_frames
from fourdistill.frames.extract import extract_frames
from fourdistill.pairs.build import build_pairs
from fourdistill.pairs.frame_pairs import read_frame_embeds
from fourdistill.shards.loader.batches import Source, fingerprint_shards, make_loader
from fourdistill.shards.loader.codec import load_shards_codec
from fourdistill.shards.publish import publish_shards
from fourdistill.shards.write import write_shards
from fourdistill.sources.readers import SourceFolder, read_source
from fourdistill.storage.store import Store
from fourdistill.training.mappers.batches import move
from fourdistill.training.prior.embeds import FrameEmbeds

RANK, TOKENS, WIDTH = 3, 5, 6
CODED = settings_of("encode_frames", batch_size=4, jobs=1, codec={"num_components": RANK, "num_embeds": 20})
WHOLE = settings_of("encode_frames", batch_size=4, jobs=1)
WRITE = settings_of("write_shards", shard_size_mb=0.1, max_pairs=None, jobs=1)
CPU = torch.device("cpu")


def encode(images):
    """Embeddings in a space of RANK dimensions, along waves of the frame's mean level."""
    level = np.array([np.asarray(image).mean() / 256 for image in images], np.float32)
    space = np.random.default_rng(0).standard_normal((RANK, TOKENS, WIDTH))
    waves = np.stack([level, np.sin(9 * level), np.cos(9 * level)], axis=1)
    embeds = np.tensordot(waves, space, axes=1).astype(np.float32)
    return {"latents": np.tile(level[:, None, None, None], (1, 4, 2, 2)), "image_embeds": embeds, "mirrored": -embeds}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Frames and pairs of two scenes, and their features and shards, whole and as codes. Read only."""
    root = tmp_path_factory.mktemp("codes")
    for seed, name in enumerate(("kick", "walk")):
        write_dynerf(root / "raw" / name, 3, 6, seed=seed)
    frames, tables = root / "frames", SimpleNamespace(frames=root / "frames.parquet", pairs=root / "pairs.parquet")
    scenes = read_source(SourceFolder(root / "raw", "dynerf"))
    rule = split_rule(test_cameras=["cam01"])
    extract_frames(scenes, frames, tables.frames, root / "scenes", root / "f", frame_settings(size=SIZE, split=rule))
    counts, kinds = {"train": 40, "val": 0, "test": 10}, {"time": 1, "view": 1, "joint": 1}
    build_pairs(
        tables.frames, root / "scenes", tables.pairs, root / "p", root / "g", pair_settings(counts, kinds),
        settings_of("displacement"), seed=0,
    )  # fmt: skip
    for kind, settings in (("whole", WHOLE), ("coded", CODED)):
        encode_frames(tables.frames, frames, root / kind, encode, settings)
        write_shards(tables.pairs, frames, root / kind, root / f"{kind}_shards", WRITE)
    return SimpleNamespace(root=root, frames=frames, tables=tables)


def batch_of(shards, codec=None):
    batches = make_loader(shards, "train", 20, seed=0, shuffle=False, epochs=1)
    return move(next(iter(batches)), CPU, codec)


def test_codes_are_stored_in_place_of_embeddings_and_read_as_embeddings(data):
    whole, coded = FeatureReader(data.root / "whole"), FeatureReader(data.root / "coded")
    key = ("kick", "cam02", 3)
    assert coded.read(*key, "image_embeds").shape == (RANK,) and whole.read(*key, "image_embeds").ndim == 2
    assert np.array_equal(coded.read(*key, "latents"), whole.read(*key, "latents"))
    keys = [("kick", "cam02", 3), ("walk", "cam01", 0), ("walk", "cam00", 5)]
    expected = read_frame_embeds(data.root / "whole", keys).float()
    torch.testing.assert_close(read_frame_embeds(data.root / "coded", keys), expected, atol=0.02, rtol=0)
    assert expected.std() > 0.3
    torch.testing.assert_close(FrameEmbeds(keys, data.root / "coded").sample(9, 0), expected, atol=0.02, rtol=0)


def test_it_is_fitted_to_training_frames_and_all_augmentations(data, tmp_path):
    def elsewhere(images):
        """Embeddings of the last frames (level 110) outside the others' space; augmented ones are all equal."""
        features = encode(images)
        last = np.array([np.asarray(image).mean() > 100 for image in images])
        features["image_embeds"][last] += 5 * np.random.default_rng(1).standard_normal((TOKENS, WIDTH))
        return {**features, "mirrored": np.ones_like(features["mirrored"])}

    scenes = read_source(SourceFolder(data.root / "raw", "dynerf"))
    frames, table = tmp_path / "frames", tmp_path / "frames.parquet"
    settings = frame_settings(size=SIZE, split=split_rule(test_times=[(0.9, 1.0)]))
    extract_frames(scenes, frames, table, tmp_path / "scenes", tmp_path / "f", settings)
    for kind, chosen in (("whole", WHOLE), ("coded", CODED)):
        encode_frames(table, frames, tmp_path / kind, elsewhere, chosen)
    readers = {kind: FeatureReader(tmp_path / kind) for kind in ("whole", "coded")}

    def error(frame, name):
        found = [r.to_embeds(r.read("walk", "cam00", frame, name)[None]).float() for r in readers.values()]
        return (found[0] - found[1]).abs().max()

    assert error(2, "mirrored") < 0.05  # in the codec's space, since it is fitted to these, too
    assert error(5, "image_embeds") > 1  # not in it: it never saw a test frame


def test_batches_of_coded_shards_contain_the_embeddings(data):
    codec = load_shards_codec(data.root / "coded_shards")
    assert load_shards_codec(data.root / "whole_shards") is None
    stored = batch_of(data.root / "coded_shards")
    assert stored.source_embeds.shape == (20, RANK)
    found, expected = batch_of(data.root / "coded_shards", codec), batch_of(data.root / "whole_shards")
    torch.testing.assert_close(found.source_embeds, expected.source_embeds, atol=0.02, rtol=0)
    assert torch.equal(found.target_latents, expected.target_latents)


def test_two_runs_give_the_same_bytes(data, tmp_path):
    encode_frames(data.tables.frames, data.frames, tmp_path / "coded", encode, CODED)
    write_shards(data.tables.pairs, data.frames, tmp_path / "coded", tmp_path / "coded_shards", WRITE)
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.*"))
    assert {"coded/codec.safetensors", "coded_shards/codec.safetensors"} <= set(map(str, files))
    for path in files:
        assert (tmp_path / path).read_bytes() == (data.root / path).read_bytes(), path


def test_sources_with_different_codecs_are_refused(data, tmp_path):
    settings = settings_of("encode_frames", batch_size=4, jobs=1, codec={"num_components": 2, "num_embeds": 20})
    encode_frames(data.tables.frames, data.frames, tmp_path / "features", encode, settings)
    write_shards(data.tables.pairs, data.frames, tmp_path / "features", tmp_path / "other", WRITE)
    coded = str(data.root / "coded_shards")
    for other, what in ((tmp_path / "other", "another"), (data.root / "whole_shards", "(none|another)")):
        with pytest.raises(InputError, match=rf"codec\.safetensors: expected the codec of .*, found {what}"):
            load_shards_codec([Source(coded), Source(str(other))])
    assert fingerprint_shards(coded) != fingerprint_shards(tmp_path / "other")


def test_a_codec_that_is_not_the_set_s_is_named(data, tmp_path):
    shutil.copytree(data.root / "coded_shards", tmp_path / "shards")
    path = tmp_path / "shards" / CODEC
    tensors = load_file(path)
    save_file({**tensors, "mean": tensors["mean"] + 1}, path)
    with pytest.raises(InputError, match=r"shards/codec\.safetensors: sha256: expected \w+ by the set's index, found"):
        load_shards_codec(tmp_path / "shards")


def test_a_codec_that_is_missing_or_damaged_is_named(data, tmp_path):
    encode_frames(data.tables.frames, data.frames, tmp_path / "features", encode, CODED)
    path, keys = tmp_path / "features" / CODEC, [("kick", "cam00", 0)]
    tensors = load_file(path)
    save_file({name: value for name, value in tensors.items() if name != "mean"}, path)
    with pytest.raises(InputError, match=r"features/codec\.safetensors: expected the codec .*mean"):
        read_frame_embeds(tmp_path / "features", keys)
    path.write_bytes(b"no codec")
    with pytest.raises(InputError, match=r"features/codec\.safetensors: expected the codec"):
        read_frame_embeds(tmp_path / "features", keys)
    path.unlink()
    with pytest.raises(InputError, match=r"features/codec\.safetensors: expected the codec"):
        read_frame_embeds(tmp_path / "features", keys)


def test_no_training_frames_to_fit_it_to(data, tmp_path):
    scenes = read_source(SourceFolder(data.root / "raw", "dynerf"))
    settings = frame_settings(size=SIZE, split=split_rule(test_scenes=["kick", "walk"]))
    table = tmp_path / "frames.parquet"
    extract_frames(scenes, tmp_path / "frames", table, tmp_path / "scenes", tmp_path / "f", settings)
    with pytest.raises(InputError, match=r"encode_frames\.codec: expected two training frames to fit it to, found 0"):
        encode_frames(table, tmp_path / "frames", tmp_path / "features", encode, CODED)
    assert not (tmp_path / "features").exists()


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A real S3 server with an empty bucket; its address."""
    pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    with running_s3(tmp_path / "weed") as server:
        for name, value in credentials(server.endpoint).items():
            monkeypatch.setenv(name, value)
        filesystem = fsspec.get_filesystem_class("s3")
        filesystem.clear_instance_cache()
        fsspec.filesystem("s3").mkdir(BUCKET)
        yield f"s3://{BUCKET}"
        filesystem.clear_instance_cache()


def test_on_s3(data, bucket, tmp_path):
    features, shards, published = (f"{bucket}/{name}" for name in ("features", "shards", "published"))
    for _ in range(2):  # the second run replaces the first
        encode_frames(data.tables.frames, data.frames, features, encode, CODED)
        write_shards(data.tables.pairs, data.frames, features, shards, WRITE)
    publish_shards(data.root / "coded_shards", published)
    expected = batch_of(data.root / "whole_shards").source_embeds
    for address in (shards, published):
        found = batch_of(address, load_shards_codec(address)).source_embeds
        torch.testing.assert_close(found, expected, atol=0.02, rtol=0)
    assert json.loads(Store(published).read("index.json", "an index"))["codec"]["name"] == CODEC
    (data.root / "coded_shards" / CODEC).rename(tmp_path / CODEC)
    try:
        with pytest.raises(InputError, match=r"codec\.safetensors: expected this codec by index\.json, found none"):
            publish_shards(data.root / "coded_shards", f"{bucket}/again")
    finally:
        (tmp_path / CODEC).rename(data.root / "coded_shards" / CODEC)
