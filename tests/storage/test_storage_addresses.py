"""The data stages with outputs on a real S3 server write the same bytes as to folders, even after kills."""

import hashlib
import itertools
import json
import multiprocessing
import os
import signal

import fsspec
import numpy as np
import pytest
import torch
from joblib.externals.loky import get_reusable_executor
from s3_server import BUCKET, credentials, running_s3
from safetensors.numpy import save_file
from stage_runs import STAGES, digests, run_stage, write_scenes
from tiny_scenes import SIZE

from fourdistill.errors import InputError
from fourdistill.evaluation.protocol.command import FrameKey
from fourdistill.evaluation.protocol.frames import FrameReader
from fourdistill.features.files import FeatureReader
from fourdistill.features.images import LATENTS
from fourdistill.features.tensors import open_tensors
from fourdistill.pairs.frame_pairs import read_frame_embeds
from fourdistill.shards.loader.shard_list import list_shards
from fourdistill.storage.store import Store, new_set, open_set
from fourdistill.training.runtime.remote import RemoteCheckpoints

pytest.importorskip("s3fs", reason="the extra s3 is not installed")


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    with running_s3(tmp_path_factory.mktemp("weed")) as server:
        yield server.endpoint


def use(monkeypatch, endpoint, **changes):
    """Make AWS's tools use this server, and clear cached file systems."""
    for name, value in (credentials(endpoint) | changes).items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    get_reusable_executor().shutdown(wait=True)  # workers of earlier tests keep their old environment


@pytest.fixture
def s3(endpoint, monkeypatch):
    use(monkeypatch, endpoint)
    filesystem = fsspec.filesystem("s3")
    if not filesystem.exists(BUCKET):
        filesystem.mkdir(BUCKET)
    return filesystem


@pytest.fixture(scope="module")
def here(tmp_path_factory, tiny_base):
    """A folder with the local outputs of all stages."""
    folder = tmp_path_factory.mktemp("here")
    write_scenes(folder)
    for stage in STAGES:
        run_stage(stage, folder, str(tiny_base))
    return folder


def written(s3, prefix):
    """SHA-256 of the objects under a prefix, by name."""
    s3.invalidate_cache()
    names = [path.removeprefix(f"{BUCKET}/{prefix}/") for path in s3.find(f"{BUCKET}/{prefix}")]
    contents = s3.cat([f"{BUCKET}/{prefix}/{name}" for name in names])
    return {name: hashlib.sha256(contents[f"{BUCKET}/{prefix}/{name}"]).hexdigest() for name in names}


def files(folder):
    """SHA-256 of the outputs of all stages in `folder`: [files other than tables, tables]."""
    found = {name: digest for stage in STAGES for name, digest in digests(folder, stage).items()}
    return [{name: digest for name, digest in found.items() if ("/" in name) is flag} for flag in (True, False)]


def test_the_stages_write_to_addresses_and_read_from_them(s3, here, tiny_base, tmp_path, monkeypatch):
    (tmp_path / "raw").symlink_to(here / "raw")
    s3.pipe({f"{BUCKET}/run/frames/old/cam00/000000.jpg": b"of an older set", f"{BUCKET}/run/frames/index.json": b"{}"})
    for stage in STAGES:
        run_stage(stage, tmp_path, str(tiny_base), jobs=1 + (stage == "write_shards"), at=f"s3://{BUCKET}/run")
    found = written(s3, "run")
    indices = {name: found[f"{name}/index.json"] for name in ("frames", "features", "shards")}
    assert found.pop("frames/index.json") and found.pop("features/index.json")  # local folders have none
    objects, tables = files(here)
    assert found == objects
    assert {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in tables} == tables
    for name, digest in indices.items():  # copies that DVC tracks
        assert hashlib.sha256((tmp_path / f"{name}.index.json").read_bytes()).hexdigest() == digest
    camera = json.loads((tmp_path / "features.index.json").read_text())["features"][0]
    assert camera["sha256"] == objects[f"features/{camera['name']}"]

    keys = [("walk", "cam02", 5), ("kick", "cam00", 1), ("walk", "cam02", 0)]
    assert torch.equal(
        read_frame_embeds(f"s3://{BUCKET}/run/features/", keys), read_frame_embeds(here / "features", keys)
    )
    with pytest.raises(
        InputError, match=r"s3://bucket/run/features/walk/cam02\.safetensors: frame_index: expected frame 9"
    ):
        FeatureReader(f"s3://{BUCKET}/run/features").read("walk", "cam02", 9, LATENTS)
    with pytest.raises(InputError, match=r"walk/cam09\.safetensors: expected features of encode_frames, found nothing"):
        FeatureReader(f"s3://{BUCKET}/run/features").read("walk", "cam09", 0, LATENTS)
    at, folder = (
        FrameReader(here / "frames.parquet", place, SIZE) for place in (f"s3://{BUCKET}/run/frames", here / "frames")
    )
    assert at(FrameKey("kick", "cam01", 3)).tobytes() == folder(FrameKey("kick", "cam01", 3)).tobytes()


def work(folder, environment, address):
    """Extract frames to an address; kill -9 after the mark of the unfinished set, before the fourth video is sent."""
    os.environ.update(environment)
    sent, put = 0, Store.put

    def counted(self, paths, names):
        nonlocal sent
        sent += 1
        if sent == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        put(self, paths, names)

    Store.put = counted
    run_stage("extract_frames", folder, "", at=address)


def test_a_stage_killed_on_the_way_to_an_address_gives_the_same_when_run_again(s3, endpoint, here, tiny_base, tmp_path):
    (tmp_path / "raw").symlink_to(here / "raw")
    address = f"s3://{BUCKET}/killed"
    process = multiprocessing.get_context("forkserver").Process(
        target=work, args=(tmp_path, credentials(endpoint), address)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    found = written(s3, "killed")
    assert found.pop("frames/unfinished.json")
    assert len({name.rpartition("/")[0] for name in found}) == 3
    (tmp_path / "frames.parquet").symlink_to(here / "frames.parquet")  # its table makes it look finished
    with pytest.raises(InputError, match=r"killed/frames/index\.json: expected the index of extract_frames"):
        run_stage("encode_frames", tmp_path, str(tiny_base), at=address)
    run_stage("extract_frames", tmp_path, "", at=address)
    found = written(s3, "killed")
    assert found.pop("frames/index.json")
    assert found == {name: digest for name, digest in files(here)[0].items() if name.startswith("frames/")}


def test_shards_that_are_not_all_written_are_not_read(tmp_path):
    address = f"memory://{tmp_path.name}/shards"
    with new_set(address, {".tar", ".json"}, depth=0) as store:
        (tmp_path / "tar").write_bytes(b"")
        store.put([tmp_path / "tar"], ["train-000000.tar"])
        for each in (address, f"{address}/", f"{address}/train-{{000000..000000}}.tar"):
            with pytest.raises(InputError, match=f"^{address}/unfinished.json: expected all shards of the set, found"):
                list_shards(each)
        entry = {"name": "train-000000.tar", "split": "train", "bytes": 0}
        store.write_index({"features": True, "shards": [entry]})
    assert [shard.bytes for shard in list_shards(address)] == [0]


def test_what_is_no_set_stays_whatever_it_looks_like(tmp_path):
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pipe_file("/models/sd15/unet.safetensors", b"1")
    (tmp_path / "copy").write_text("{}")
    with (
        pytest.raises(InputError, match=r"memory://models/sd15/unet\.safetensors: expected nothing at memory://models"),
        new_set("memory://models", {".safetensors"}, depth=1, index_copy=tmp_path / "copy"),
    ):
        pass
    assert memory.find("/") == ["/models/sd15/unet.safetensors"] and (tmp_path / "copy").is_file()


def test_a_part_of_an_index_is_none(tmp_path):
    (tmp_path / "index.json").write_text('{"half":')
    with pytest.raises(InputError, match=r"index\.json: expected the index of extract_frames, found a part of one"):
        open_set(f"file://{tmp_path}", "extract_frames")


@pytest.mark.parametrize("rows", [1, 3])
def test_tensors_that_are_not_where_their_header_says(tmp_path, rows):
    save_file({"latents": np.zeros((2, 4), np.float16)}, tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(data.replace(b'"shape":[2,4]', f'"shape":[{rows},4]'.encode()))
    with pytest.raises(InputError, match=r"a\.safetensors: expected features, found another header"):
        open_tensors(Store(f"file://{tmp_path}"), "a.safetensors", "features")


@pytest.mark.parametrize(
    ("address", "changes", "expected"),
    [
        ("s3://bucket/x", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "access was denied"),
        ("s3://bucket/x", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}, "Could not connect"),
        ("teleport://bucket/x", {}, "Protocol not known"),
    ],
    ids=["credentials", "endpoint", "protocol"],
)
def test_where_nothing_can_be_written_one_line_says_why(endpoint, tmp_path, monkeypatch, address, changes, expected):
    use(monkeypatch, endpoint, **changes)
    (tmp_path / "one").write_text("1")

    def write():
        with new_set(address, {".jpg"}, depth=2) as store:
            store.put([tmp_path / "one"], ["a/b/one.jpg"])

    def check():
        (tmp_path / "step-00000001").mkdir(exist_ok=True)
        (tmp_path / "step-00000001" / "last").write_text("1")
        RemoteCheckpoints(address, "last").put(tmp_path / "step-00000001")

    for attempt in (write, check):
        with pytest.raises(InputError, match=f"^{address}.*{expected}") as error:
            attempt()
        assert "\n" not in str(error.value)


def test_a_bucket_that_is_not_there_has_no_set(s3):
    with pytest.raises(
        InputError, match=r"s3://nowhere/x/index\.json: expected the index of encode_frames.*found nothing"
    ):
        FeatureReader("s3://nowhere/x/")
    assert not s3.exists("nowhere")  # it is not created either


def test_reading_at_an_address_waits_for_what_uses_it():
    begun = []
    results = Store("memory://anywhere").each(lambda number: begun.append(number) or number, itertools.count())
    assert [next(results) for _ in range(100)] == list(range(100))
    assert len(begun) < 300
