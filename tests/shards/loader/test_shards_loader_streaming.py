"""The loader over local shards and fsspec's memory file system: sharding, order, resumption, mixtures, faults."""

import itertools
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_folders import ids, write_shard_folder

from fourdistill.errors import InputError
from fourdistill.shards.loader.batches import ReadOptions, Source, list_splits, make_loader, merge_reports
from fourdistill.shards.loader.shard_cache import ShardCache

NUM_SHARDS, SAMPLES = 8, 10
ALL = list(range(NUM_SHARDS * SAMPLES))
LENIENT = ReadOptions(max_bad_fraction=1.0)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Eight shards of ten samples. Read only."""
    return write_shard_folder(tmp_path_factory.mktemp("streaming") / "shards", NUM_SHARDS, SAMPLES)


def load(shards, batch_size=4, seed=0, shuffle=True, **kwargs):
    return make_loader(shards, "train", batch_size, seed=seed, shuffle=shuffle, **kwargs)


def first_batches(loader, number):
    return [batch.pair_id.tolist() for batch in itertools.islice(loader, number)]


@pytest.mark.parametrize("shuffle", [False, True])
def test_exact_epochs_lose_and_repeat_nothing(shards, shuffle):
    """2 processes x 2 workers: every sample is read once per epoch, by one worker."""
    loaders = [load(shards, epochs=2, shuffle=shuffle, num_workers=2, rank=rank, world_size=2) for rank in range(2)]
    seen = [ids(loader) for loader in loaders]
    assert Counter(itertools.chain(*seen)) == dict.fromkeys(ALL, 2)
    assert all(len(part) == len(ALL) for part in seen)
    report = merge_reports(loader.report.counts() for loader in loaders)
    assert report["shards_read"] == 2 * NUM_SHARDS and report["samples_read"] == 2 * len(ALL)
    assert report["shards_broken"] == report["samples_missing"] == report["samples_undecodable"] == 0


@pytest.mark.parametrize("num_workers", [0, 1, 2])
@pytest.mark.parametrize("start", [3, 23, 50])
def test_a_resumed_loader_goes_on_where_it_was(shards, num_workers, start):
    kwargs = {"num_workers": num_workers, "rank": 1, "world_size": 2}
    options = ReadOptions(shuffle_buffer=12)
    unbroken = first_batches(load(shards, options=options, **kwargs), start + 12)
    assert first_batches(load(shards, options=options, start_batch=start, **kwargs), 12) == unbroken[start:]


def test_what_was_passed_is_not_read_again(shards):
    """Of 20 shards' worth of batches, only shards with remaining samples are opened."""
    loader = load(shards, start_batch=2 * 20 + 18, options=ReadOptions(shuffle_buffer=4))  # an epoch is 20 batches
    next(iter(loader))
    assert loader.report.counts()["shards_read"] <= 3


def test_without_an_index_it_resumes_by_reading(shards, tmp_path):
    folder = shutil.copytree(shards, tmp_path / "shards", ignore=lambda *_: ["index.json"])
    assert first_batches(load(folder, start_batch=25), 5) == first_batches(load(folder), 30)[25:]


def test_a_resumed_mixture_goes_on_where_it_was(shards, tmp_path):
    other = write_shard_folder(tmp_path / "other", 4, 5, first_id=1000)
    sources = [Source(str(shards), 3), Source(str(other), 1)]
    assert (
        first_batches(load(sources, start_batch=30, num_workers=2), 8)
        == first_batches(load(sources, num_workers=2), 38)[30:]
    )


def test_workers_and_processes_see_the_same_batches(shards):
    """Two workers of one process alternate the batches of two processes, so gradient accumulation is equivalent."""
    one = first_batches(load(shards, num_workers=2), 8)
    two = [first_batches(load(shards, rank=rank, world_size=2), 4) for rank in range(2)]
    assert one == list(itertools.chain(*zip(*two, strict=True)))


def test_a_mixture_keeps_its_weights(shards, tmp_path):
    other = write_shard_folder(tmp_path / "other", 2, 5, first_id=1000)
    loader = load([Source(str(shards), 3), Source(str(other), 1)], batch_size=50)
    seen = list(itertools.chain(*first_batches(loader, 20)))
    assert 0.7 < sum(number < 1000 for number in seen) / len(seen) < 0.8
    whole = ids(load([Source(str(shards), 3), Source(str(other), 1)], epochs=1))
    assert sorted(whole) == [*ALL, *range(1000, 1010)]  # epochs of a mixture are exact, too


def test_sources_without_a_split_are_left_out_of_it(shards, tmp_path):
    both = write_shard_folder(tmp_path / "both", 1, 5, split="val", first_id=500)
    sources = [Source(str(shards)), Source(str(both))]
    assert list_splits(sources) == {"train", "val"}
    assert sorted(ids(make_loader(sources, "val", 4, seed=0, shuffle=True, epochs=1))) == list(range(500, 505))
    assert sorted(ids(load(sources, epochs=1))) == ALL


def test_resampled_shards_come_with_replacement_and_without_end(shards):
    options = ReadOptions(resampled=True, shuffle_buffer=1)
    loader = load(shards, batch_size=SAMPLES, options=options, num_workers=2)
    firsts = [min(batch) // SAMPLES for batch in first_batches(loader, 60)]
    assert len(set(firsts)) > 4 and max(Counter(firsts).values()) > 60 / NUM_SHARDS
    # With more workers than shards, each draws from all.
    assert first_batches(load(shards, options=options, rank=11, world_size=12), 1)
    with pytest.raises(InputError, match="resampled: expected no number of epochs"):
        load(shards, options=options, epochs=1)


@pytest.mark.parametrize(
    "address", ["{folder}/", "{folder}/train-{{000000..000007}}.tar", "file://{folder}", "memory://{name}/"]
)
@pytest.mark.parametrize("index", [True, False])
def test_addresses(shards, tmp_path, address, index):
    name = f"{tmp_path.name}"
    folder = shutil.copytree(shards, tmp_path / "shards")
    if not index:
        (folder / "index.json").unlink()
    memory = fsspec.filesystem("memory")
    for path in folder.iterdir():
        memory.pipe_file(f"/{name}/{path.name}", path.read_bytes())
    loader = load(address.format(folder=folder, name=name), epochs=1, num_workers=0)
    assert sorted(ids(loader)) == ALL
    assert (loader.report.shards[0].samples is not None) == index


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("{folder}/train-{{000000..", "expected braces such as"),
        ("{folder}/clip-000000.tar", "expected names such as train-000000.tar, found 'clip-000000.tar'"),
        ("{folder}/nowhere", "expected shards"),
        ("nosuch://bucket/", "expected a path, or an address such as s3://bucket/prefix/"),
    ],
)
def test_bad_addresses(tmp_path, address, expected):
    with pytest.raises(InputError, match=expected):
        load(address.format(folder=tmp_path))


def copy(shards, tmp_path, index=True):
    folder = shutil.copytree(shards, tmp_path / "shards")
    if not index:
        (folder / "index.json").unlink()
    return folder


def spoil(path, start, content):
    data = bytearray(path.read_bytes())
    data[start : start + len(content)] = content
    path.write_bytes(data)


def broken_header(path):
    """Corrupt the header of the fourth sample's first member: Python's tarfile sees the end of the archive."""
    data = path.read_bytes()
    header = data.index(b"000000033.json")
    assert header % 512 == 0
    spoil(path, header, b"\xff" * 512)


def broken_last_header(path):
    """Corrupt a header so near the end that it is already in tarfile's buffer."""
    data = path.read_bytes()
    spoil(path, data.index(b"000000039.target_latents.npy"), b"\xff" * 512)


def cut_between_members(path):
    """Cut the file at the end of a member, so that only the closing zeros seem to be missing."""
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"000000035.json")])


def cut_in_a_member(path):
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"000000035.json") + 2000])


def gone(path):
    path.unlink()


FAULTS = {broken_header: 3, broken_last_header: 9, cut_between_members: 5, cut_in_a_member: 5, gone: 0}


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_broken_shard_is_skipped_and_counted(shards, tmp_path, fault, index, num_workers, caplog):
    folder = copy(shards, tmp_path, index)
    pattern = f"{folder}/train-{{000000..000007}}.tar"
    fault(folder / "train-000003.tar")
    loader = load(pattern, epochs=1, num_workers=num_workers, options=ReadOptions(max_bad_fraction=0.2))
    good = [number for number in ALL if number // SAMPLES != 3 or number % SAMPLES < FAULTS[fault]]
    assert sorted(ids(loader)) == good
    report = loader.report.counts()
    url = f"{folder}/train-000003.tar"
    assert report["shards_read"] == NUM_SHARDS and report["shards_broken"] == 1
    assert list(report["samples_skipped_by_shard"]) == [url]
    lost = SAMPLES - FAULTS[fault]
    if index:
        assert report["samples_skipped_by_shard"][url] == lost
        assert report["samples_missing"] + report["samples_undecodable"] == lost
    if not num_workers:  # workers log to their own stream
        assert f"{url}: " in caplog.text and "skipped" in caplog.text


def test_a_sample_that_is_no_sample_is_skipped_and_counted(shards, tmp_path, caplog):
    folder = copy(shards, tmp_path)
    path = folder / "train-000005.tar"
    spoil(path, path.read_bytes().index(b'{"pair_id": 55'), b"{]")
    loader = load(folder, epochs=1, num_workers=2)
    assert sorted(ids(loader)) == [number for number in ALL if number != 55]
    assert loader.report.counts()["samples_undecodable"] == 1
    assert sorted(ids(load(folder, epochs=1))) == [number for number in ALL if number != 55]
    assert "train-000005.tar: sample 000000055: skipped: not as write_shards writes it: JSONDecodeError" in caplog.text


@pytest.mark.parametrize("num_workers", [0, 2])
def test_too_much_that_is_bad_stops_with_one_line(shards, tmp_path, num_workers):
    folder = copy(shards, tmp_path)
    gone(folder / "train-000003.tar")
    gone(folder / "train-000006.tar")
    loader = load(folder, epochs=1, num_workers=num_workers, options=ReadOptions(max_bad_fraction=0.2))
    with pytest.raises(InputError, match=r"2 of 8 shards are lost, more than max_bad_fraction 0\.2 allows") as error:
        list(loader)
    assert "\n" not in str(error.value)


def test_nothing_but_broken_shards_is_an_error_however_lenient(tmp_path):
    folder = write_shard_folder(tmp_path / "shards", 1, 2)
    (folder / "train-000000.tar").write_bytes(b"")
    with pytest.raises(InputError, match="expected samples in it or in the shards beside it, found none"):
        next(iter(load(folder, options=LENIENT)))


@pytest.mark.parametrize("num_workers", [0, 8])
def test_a_worker_whose_only_shard_is_bad_goes_on_with_others(shards, tmp_path, num_workers):
    folder = copy(shards, tmp_path)
    (folder / "train-000003.tar").write_bytes(b"")
    options = ReadOptions(max_bad_fraction=0.2)
    good = {number for number in ALL if number // SAMPLES != 3}
    assert set(ids(load(folder, epochs=4, num_workers=num_workers, options=options))) == good
    endless = load(folder, epochs=None, num_workers=num_workers, options=options)
    assert good == {number for batch in itertools.islice(endless, 200) for number in batch.pair_id.tolist()}
    counts = endless.report.counts()
    assert 0 < counts["shards_lost"] == counts["shards_broken"] < 0.2 * counts["shards_read"]


READ_ON = """
import signal, sys
from fourdistill.shards.loader.batches import make_loader
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(True))
batches = iter(make_loader(sys.argv[1], "train", 4, seed=0, shuffle=True, num_workers=2))
for _ in range(2):  # one of each worker: both have come so far that they know what SIGTERM means
    next(batches)
print("reading", flush=True)
while not told:
    next(batches)
for _ in range(40):
    next(batches)
print("saved", flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says who sent a signal")
def test_workers_leave_sigterm_to_the_training(shards):
    """A cluster sends it to all processes at once."""
    command = [sys.executable, "-c", READ_ON, str(shards)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "reading\n"
            os.killpg(process.pid, signal.SIGTERM)
            said, _ = process.communicate(timeout=60)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert (said, process.returncode) == ("saved\n", 0)


def test_checksums_are_verified_when_asked(shards, tmp_path):
    folder = copy(shards, tmp_path)
    path = folder / "train-000002.tar"
    spoil(path, path.read_bytes().index(b"not looked at"), b"Not looked at")  # still decodes
    assert sorted(ids(load(folder, epochs=1))) == ALL
    loader = load(folder, epochs=1, options=ReadOptions(verify=True, max_bad_fraction=0.2))
    assert sorted(ids(loader)) == [number for number in ALL if number // SAMPLES != 2]
    assert loader.report.counts()["samples_missing"] == SAMPLES
    (folder / "index.json").unlink()
    with pytest.raises(InputError, match=r"verify: expected an index\.json beside it with its sha256"):
        load(folder, options=ReadOptions(verify=True))


def to_memory(folder, name):
    memory = fsspec.filesystem("memory")
    for path in folder.iterdir():
        memory.pipe_file(f"/{name}/{path.name}", path.read_bytes())
    return f"memory://{name}"


def test_a_cache_keeps_what_was_fetched_within_its_bound(shards, tmp_path):
    address = to_memory(shards, tmp_path.name)
    size = (shards / "train-000000.tar").stat().st_size
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "mine.txt").write_text("not the cache's")
    options = ReadOptions(cache_dir=str(cache), cache_gb=4.5 * size / 1e9, verify=True)
    assert sorted(ids(load(address, epochs=1, options=options))) == ALL
    kept = list(cache.glob("*.tar"))
    assert len(kept) == 4 and (cache / "mine.txt").exists()
    assert {path.name for path in cache.iterdir()} == {"mine.txt", ".lock", *(path.name for path in kept)}
    roomy = ReadOptions(cache_dir=str(cache), cache_gb=1)
    assert sorted(ids(load(address, epochs=1, options=roomy))) == ALL
    assert len(list(cache.glob("*.tar"))) == NUM_SHARDS
    for number in range(NUM_SHARDS):
        fsspec.filesystem("memory").rm_file(f"/{tmp_path.name}/train-{number:06d}.tar")
    assert sorted(ids(load(address, epochs=1, options=roomy))) == ALL  # only from the cache


def test_a_cache_takes_the_place_of_killed_writers_and_refuses_what_is_too_large(shards, tmp_path):
    address = to_memory(shards, tmp_path.name)
    cache = tmp_path / "cache"
    cache.mkdir()
    writer = f"{platform.node()}.{2**22 + 1}-1"  # above the highest process id
    dead = cache / f".{'0' * 64}.tar.{writer}.partial"
    dead.write_bytes(b"half a shard")
    size = (shards / "train-000000.tar").stat().st_size
    options = ReadOptions(cache_dir=str(cache), cache_gb=0.5 * size / 1e9)
    assert sorted(ids(load(address, epochs=1, options=options))) == ALL
    assert not list(cache.glob("*.tar"))
    assert sorted(ids(load(address, epochs=1, options=ReadOptions(cache_dir=str(cache), cache_gb=1)))) == ALL
    assert not dead.exists()


def put(folder, name, content=None, shard="train-000002.tar"):
    """Set the content of this shard at the address; None restores that of the folder."""
    whole = (folder / shard).read_bytes()
    fsspec.filesystem("memory").pipe_file(f"/{name}/{shard}", whole if content is None else content)
    return whole


def cached(cache, content):
    """Whether the cache has a file with this content."""
    return content in [path.read_bytes() for path in cache.glob("*.tar")]


def test_verify_checks_what_the_cache_has_and_fetches_it_anew(shards, tmp_path, caplog):
    address, cache = to_memory(shards, tmp_path.name), tmp_path / "cache"
    whole = (shards / "train-000002.tar").read_bytes()
    changed = whole.replace(b"not looked at", b"Not looked at")  # still decodes
    put(shards, tmp_path.name, changed)
    assert sorted(ids(load(address, epochs=1, options=ReadOptions(cache_dir=str(cache))))) == ALL
    assert cached(cache, changed)
    checked = ReadOptions(cache_dir=str(cache), verify=True, max_bad_fraction=0.2)
    loader = load(address, epochs=1, options=checked)
    assert sorted(ids(loader)) == [number for number in ALL if number // SAMPLES != 2]
    assert loader.report.counts()["shards_broken"] == 1
    assert not cached(cache, changed) and len(list(cache.iterdir())) == NUM_SHARDS  # the other shards and the lock
    put(shards, tmp_path.name)
    assert sorted(ids(load(address, epochs=1, options=checked))) == ALL
    (here,) = [path for path in cache.glob("*.tar") if path.read_bytes() == whole]
    here.write_bytes(changed)  # disk corruption
    loader = load(address, epochs=1, options=checked)
    assert sorted(ids(loader)) == ALL and loader.report.counts()["shards_broken"] == 0
    assert here.read_bytes() == whole
    assert f"{here}: dropped from the cache, to be fetched anew: sha256: expected" in caplog.text


def test_a_cached_file_that_lost_its_end_is_fetched_anew(shards, tmp_path):
    address, cache = to_memory(shards, tmp_path.name), tmp_path / "cache"
    options = ReadOptions(cache_dir=str(cache))
    assert sorted(ids(load(address, epochs=1, options=options))) == ALL
    path = next(cache.glob("*.tar"))
    whole = path.read_bytes()
    path.write_bytes(whole[:5000])
    assert sorted(ids(load(address, epochs=1, options=options))) == ALL
    assert path.read_bytes() == whole


def test_a_truncated_object_is_read_once_and_not_kept(shards, tmp_path, caplog):
    address, cache = to_memory(shards, tmp_path.name), tmp_path / "cache"
    whole = (shards / "train-000002.tar").read_bytes()
    put(shards, tmp_path.name, whole[: whole.index(b"000000024.json")])
    options = ReadOptions(cache_dir=str(cache), max_bad_fraction=0.2)
    only = f"{address}/train-000002.tar"
    loader = load(only, epochs=1, options=ReadOptions(cache_dir=str(cache), max_bad_fraction=1))
    assert sorted(ids(loader)) == [20, 21, 22, 23]
    report = loader.report.counts()
    assert report["shards_broken"] == 1 and report["samples_missing"] == 6
    assert "expected another header or the closing zeros" in caplog.text  # missing bytes do not count as zeros
    assert [path.name for path in cache.iterdir()] == [".lock"]
    loader = load(address, epochs=1, options=options)
    assert sorted(ids(loader)) == [number for number in ALL if number not in range(24, 30)]
    assert len(list(cache.glob("*.tar"))) == NUM_SHARDS - 1
    put(shards, tmp_path.name)
    loader = load(address, epochs=1, options=options)
    assert sorted(ids(loader)) == ALL and loader.report.counts()["shards_broken"] == 0
    assert cached(cache, whole)


def accept(file):
    """Accept any content."""


def test_threads_fetch_the_same_shard_beside_each_other(tmp_path):
    cache, together, got = ShardCache(tmp_path / "cache", 1e6), threading.Barrier(2, timeout=60), []

    def fetch():
        def write(file):
            file.write(b"first ")
            together.wait()
            file.write(b"second")

        file = cache.get("key", 12, write, accept)
        assert file is not None
        with file:
            got.append(file.read())

    threads = [threading.Thread(target=fetch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [b"first second"] * 2
    assert len(list(cache.folder.iterdir())) == 2  # the shard and the lock


def write_zeros(file):
    file.write(bytes(30))


def test_making_room_bears_that_others_remove_files(tmp_path, monkeypatch):
    cache, stat = ShardCache(tmp_path / "cache", 100), Path.stat

    def get(key):
        file = cache.get(key, 30, write_zeros, accept)
        assert file is not None
        with file:
            return file.read()

    for key in ("one", "two", "three"):
        get(key)
    victim, removed = next(cache.folder.glob("*.tar")), []

    def stat_and_lose(path, **kwargs):
        """Simulate another process that removes a file right after its `stat`."""
        if path == victim and not removed:
            removed.append(stat(path, **kwargs))
            victim.unlink()
            return removed[0]
        return stat(path, **kwargs)

    monkeypatch.setattr(Path, "stat", stat_and_lose)
    assert get("four") == bytes(30) and removed


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 2**20), st.binary(min_size=1, max_size=600)), min_size=1, max_size=4))
def test_damage_never_ends_in_anything_but_an_account(tmp_path_factory, edits):
    """Any damage to a tar gives the remaining samples and a count, without a crash or hang."""
    indexed, bare = (tmp_path_factory.getbasetemp() / name for name in ("fuzz", "fuzz_bare"))
    if not indexed.exists():
        write_shard_folder(indexed, 2, 5)
        shutil.copytree(indexed, bare)
        (bare / "index.json").unlink()
        shutil.copy(indexed / "train-000001.tar", indexed / "whole")
    data = bytearray((indexed / "whole").read_bytes())
    for start, content in edits:
        start %= len(data)
        data[start : start + len(content)] = content
    for folder in (indexed, bare):
        (folder / "train-000001.tar").write_bytes(data)
        loader = load(folder, epochs=1, options=LENIENT)
        seen = ids(loader)
        assert set(range(5)) <= set(seen)
        report = loader.report.counts()
        json.dumps(report)
        if folder is indexed:
            assert len(seen) + report["samples_missing"] + report["samples_undecodable"] >= 10


def test_a_share_of_bad_shards_that_is_allowed_is_allowed_in_every_epoch(tmp_path):
    folder = write_shard_folder(tmp_path / "shards", 30, 2)
    (folder / "train-000007.tar").unlink()  # early in the second epoch of seed 1: 2 of 33 exceed 0.05
    loader = load(folder, seed=1, epochs=3, options=ReadOptions(max_bad_fraction=0.05))
    assert len(ids(loader)) == 3 * 29 * 2
