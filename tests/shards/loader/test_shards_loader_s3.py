"""Publishing to and streaming from a real S3 server on loopback, also through a proxy that injects faults."""

import functools
import http.server
import json
import multiprocessing
import shutil
import subprocess
import sys
import tarfile
import threading
import urllib.request

import fsspec
import pytest
from fault_proxy import Answer, from_byte, running_proxy, times
from s3_server import BUCKET, credentials, running_s3
from shard_folders import ids, write_shard_folder
from typer.testing import CliRunner

from fourdistill.cli import app
from fourdistill.errors import InputError
from fourdistill.shards import publish
from fourdistill.shards.loader import opener
from fourdistill.shards.loader.batches import ReadOptions, make_loader, merge_reports
from fourdistill.shards.publish import publish_shards

pytest.importorskip("s3fs", reason="the extra s3 is not installed")
NUM_SHARDS, SAMPLES = 8, 10
ALL = list(range(NUM_SHARDS * SAMPLES))
ADDRESS = f"s3://{BUCKET}/mocap"
SPOILT = "train-000003.tar"
WITHOUT_SPOILT = [number for number in ALL if number // SAMPLES != 3]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_shard_folder(tmp_path_factory.mktemp("s3") / "shards", NUM_SHARDS, SAMPLES)


@pytest.fixture(scope="module")
def server(tmp_path_factory, shards):
    """A server with the shards at ADDRESS."""
    with running_s3(tmp_path_factory.mktemp("weed")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in credentials(server.endpoint).items():
            patch.setenv(name, value)
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir(BUCKET)
        publish_shards(shards, ADDRESS)
        yield server


def use(monkeypatch, endpoint, **changes):
    """Make AWS's tools use this server, and clear cached file systems."""
    for name, value in (credentials(endpoint) | changes).items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture(autouse=True)
def s3(server, monkeypatch):
    """An S3 file system with the right credentials."""
    use(monkeypatch, server.endpoint)
    return fsspec.filesystem("s3")


@pytest.fixture
def proxy(server, monkeypatch):
    with running_proxy(server.endpoint) as proxy:
        use(monkeypatch, proxy.endpoint, AWS_MAX_ATTEMPTS="2")
        yield proxy


@pytest.fixture(params=[(opener.BLOCK, 0), (2**14, 3 * 2**14)], ids=["one request", "many requests"])
def faults_from(request, monkeypatch):
    """Shards fetched by one or several requests; the value is the byte from which faults occur."""
    monkeypatch.setattr(opener, "BLOCK", request.param[0])
    return request.param[1]


def num_before(shards, end):
    """Number of the spoilt shard's samples in its first `end` bytes: those whose successor has begun."""
    with tarfile.open(shards / SPOILT) as tar:
        begun = [member.offset_data + member.size for member in tar if member.name.endswith(".json")]
    return sum(each <= end for each in begun[1:])


def with_some(num):
    """All samples, but only the first `num` of the spoilt shard."""
    return sorted([*WITHOUT_SPOILT, *range(3 * SAMPLES, 3 * SAMPLES + num)])


def load(address=ADDRESS, **kwargs):
    kwargs = {"epochs": 1, "options": ReadOptions(max_bad_fraction=0.2)} | kwargs
    return make_loader(address, "train", 4, seed=0, shuffle=True, **kwargs)


@pytest.mark.parametrize("address", [f"{ADDRESS}/", f"{ADDRESS}/train-{{000000..000007}}.tar"])
def test_the_same_code_streams_from_s3(shards, address):
    assert ids(load(address)) == ids(load(str(shards)))  # in the same order
    assert ids(load(address, num_workers=2)) == ids(load(str(shards), num_workers=2))


def test_a_prefix_without_an_index_is_listed(s3, shards):
    for path in shards.glob("*.tar"):
        s3.put_file(str(path), f"{BUCKET}/listed/{path.name}")
    s3.pipe_file(f"{BUCKET}/listed/notes.txt", b"no shard")
    loader = load(f"s3://{BUCKET}/listed")
    assert sorted(ids(loader)) == ALL
    assert loader.report.shards[0].bytes == (shards / "train-000000.tar").stat().st_size


def count(rank, endpoint, results):
    """One process, as started by `accelerate launch`."""
    with pytest.MonkeyPatch.context() as patch:
        use(patch, endpoint)
        loader = load(epochs=2, num_workers=2, rank=rank, world_size=2)
        results.put((ids(loader), loader.report.counts()))


def test_two_processes_with_two_workers_lose_and_repeat_nothing(server):
    context = multiprocessing.get_context("fork")  # otherwise each would import torch again
    results = context.Queue()
    processes = [context.Process(target=count, args=(rank, server.endpoint, results)) for rank in range(2)]
    for process in processes:
        process.start()
    parts = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(30)
    assert sorted(number for part, _ in parts for number in part) == sorted(ALL * 2)
    assert merge_reports(report for _, report in parts)["samples_read"] == 2 * len(ALL)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "but access was denied"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "but access was denied"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}, "Could not connect to the endpoint"),
    ],
)
def test_wrong_credentials_and_endpoints_are_one_clear_line(monkeypatch, server, changes, expected):
    use(monkeypatch, server.endpoint, **changes)
    with pytest.raises(InputError, match=rf"^{ADDRESS}: expected shards.*{expected}") as error:
        load()
    assert "\n" not in str(error.value)


def test_a_profile_will_do(monkeypatch, server, tmp_path):
    given = credentials(server.endpoint)
    (tmp_path / "config").write_text(f"[profile lab]\nregion = us-east-1\nendpoint_url = {server.endpoint}\n")
    (tmp_path / "keys").write_text(
        f"[lab]\naws_access_key_id = {given['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {given['AWS_SECRET_ACCESS_KEY']}\n"
    )
    use(
        monkeypatch,
        server.endpoint,
        AWS_CONFIG_FILE=str(tmp_path / "config"),
        AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "keys"),
        AWS_PROFILE="lab",
    )
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert sorted(ids(load())) == ALL


def test_a_bucket_that_is_not_there(s3):
    with pytest.raises(InputError, match="s3://nowhere/x: expected shards"):
        load("s3://nowhere/x/")


@pytest.mark.parametrize("fault", [Answer.cut, Answer.unavailable], ids=["cut", "503"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_passes_costs_nothing(proxy, fault, num_workers, faults_from):
    proxy.faults[SPOILT] = from_byte(faults_from, times(1, fault))
    loader = load(num_workers=num_workers)
    assert sorted(ids(loader)) == ALL
    assert loader.report.counts()["shards_broken"] == 0
    ranges = [part for _, path, part in proxy.requests if SPOILT in path]
    assert len(ranges) == len(set(ranges)) + 1  # one request was repeated
    assert (len(set(ranges)) > 4) == (faults_from > 0)


@pytest.mark.parametrize("fault", [Answer.cut, Answer.unavailable, Answer.drip], ids=["cut", "503", "drip"])
def test_what_does_not_pass_is_skipped_and_counted(proxy, shards, fault, faults_from, monkeypatch, caplog):
    fast = fsspec.get_filesystem_class("s3")
    monkeypatch.setattr(fast, "retries", 2)  # s3fs waits longer after each retry
    proxy.faults[SPOILT] = from_byte(faults_from, fault)
    timeout_s = 1 if fault is Answer.drip else 60
    loader = load(options=ReadOptions(max_bad_fraction=0.2, shuffle_buffer=1, timeout_s=timeout_s))
    given = num_before(shards, faults_from)
    assert (0 < given < SAMPLES) == (faults_from > 0)
    assert sorted(ids(loader)) == with_some(given)
    report = loader.report.counts()
    assert report["shards_broken"] == 1 and report["samples_missing"] == SAMPLES - given
    assert report["samples_skipped_by_shard"] == {f"{ADDRESS}/{SPOILT}": SAMPLES - given}
    assert f"{ADDRESS}/{SPOILT}: skipped after {given} of 10 samples: " in caplog.text


def spoil(s3, content):
    """Copy the shards to another prefix, with one replaced by `content`, or removed if None."""
    s3.copy(f"{BUCKET}/mocap/", f"{BUCKET}/spoilt/", recursive=True)
    path = f"{BUCKET}/spoilt/{SPOILT}"
    if content is None:
        s3.rm_file(path)
    else:
        s3.pipe_file(path, content)
    return f"s3://{BUCKET}/spoilt/"


@pytest.mark.parametrize("end", ["between samples", "between requests"])
def test_a_truncated_object_gives_what_it_has(s3, shards, end, faults_from):
    content = (shards / SPOILT).read_bytes()
    size = content.index(b"000000034.json") if end == "between samples" else 2**15
    given = 4 if end == "between samples" else num_before(shards, size)
    assert 0 < given < SAMPLES
    address = spoil(s3, content[:size])
    loader = load(address)
    assert sorted(ids(loader)) == with_some(given)
    report = loader.report.counts()
    assert report["samples_undecodable"] <= (end == "between requests")  # the incomplete sample
    assert report["samples_missing"] + report["samples_undecodable"] == SAMPLES - given
    verified = load(address, options=ReadOptions(max_bad_fraction=0.2, verify=True))
    assert sorted(ids(verified)) == WITHOUT_SPOILT


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_corrupt_header_and_a_corrupt_member(s3, shards, num_workers, faults_from):
    content = bytearray((shards / SPOILT).read_bytes())
    with tarfile.open(shards / SPOILT) as tar:
        member, header = tar.getmember("000000036.target_latents.npy"), tar.getmember("000000038.json")
    content[member.offset_data : member.offset_data + 6] = b"no npy"
    content[header.offset + 148 : header.offset + 156] = b"777777\0 "  # its checksum
    assert member.offset > 2**14
    loader = load(spoil(s3, bytes(content)), num_workers=num_workers)
    assert sorted(ids(loader)) == sorted({*ALL} - {36, 38, 39})
    report = loader.report.counts()
    assert (report["samples_undecodable"], report["shards_broken"], report["samples_missing"]) == (1, 1, 2)


@pytest.mark.parametrize("verify", [False, True])
def test_a_missing_shard_and_one_changed_in_place(s3, shards, tmp_path, verify, faults_from):
    options = ReadOptions(max_bad_fraction=0.2, verify=verify, cache_dir=str(tmp_path / "cache") if verify else None)
    assert sorted(ids(load(spoil(s3, None), options=options))) == WITHOUT_SPOILT
    changed = (shards / SPOILT).read_bytes().replace(b"not looked at", b"NOT LOOKED AT")
    expected = WITHOUT_SPOILT if verify else ALL
    assert sorted(ids(load(spoil(s3, changed), options=options))) == expected


def test_a_server_that_is_away_for_a_while_costs_nothing(server, monkeypatch, faults_from):
    with running_proxy(server.endpoint) as proxy:
        use(monkeypatch, proxy.endpoint)
        batches = iter(load(options=ReadOptions(shuffle_buffer=1, read_ahead_mb=4)))
        seen = next(batches).pair_id.tolist()
    comeback = threading.Event()

    def come_back():
        with running_proxy(server.endpoint, proxy.server_address[1]):
            comeback.wait(60)

    later = threading.Timer(1.5, come_back)
    later.start()
    try:
        seen += ids(batches)
    finally:
        comeback.set()
        later.join()
    assert sorted(seen) == ALL


def test_a_cache_spares_requests(proxy, tmp_path):
    options = ReadOptions(cache_dir=str(tmp_path / "cache"), cache_gb=1)
    assert sorted(ids(load(options=options))) == ALL
    proxy.requests.clear()
    assert sorted(ids(load(options=options))) == ALL
    assert not [path for _, path, _ in proxy.requests if ".tar" in path]


def test_http_with_and_without_ranges(server, shards, faults_from):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            pass

    handler = functools.partial(Quiet, directory=str(shards))  # does not support ranges
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as plain:
        threading.Thread(target=plain.serve_forever, daemon=True).start()
        with running_proxy(f"http://127.0.0.1:{plain.server_address[1]}") as proxy:
            proxy.faults[SPOILT] = times(1, Answer.cut)
            assert sorted(ids(load(f"{proxy.endpoint}/train-{{000000..000007}}.tar"))) == ALL
            proxy.faults["train-000005.tar"] = Answer.unavailable
            assert len(ids(load(proxy.endpoint))) == len(ALL) - SAMPLES
        plain.shutdown()
    filer = f"http://127.0.0.1:{server._ports['filer']}/buckets/{BUCKET}/mocap"  # supports ranges
    assert urllib.request.urlopen(f"{filer}/index.json").status == 200
    assert sorted(ids(load(filer))) == ALL


def push(*arguments):
    return CliRunner().invoke(app, ["push-shards", *map(str, arguments)])


def test_push_sends_what_is_not_there_and_the_index_last(proxy, shards, s3):
    address = f"s3://{BUCKET}/pushed"
    first = push(shards, address, "--json")
    assert first.exit_code == 0, first.output
    said = json.loads(first.stdout)
    assert len(said["uploaded"]) == NUM_SHARDS and said["bytes"] == sum(p.stat().st_size for p in shards.glob("*.tar"))
    puts = [path for command, path, _ in proxy.requests if command == "PUT"]
    assert puts[0].endswith("unfinished.json") and puts[-1].endswith("index.json") and len(puts) == NUM_SHARDS + 2
    fresh = fsspec.filesystem("s3", skip_instance_cache=True)
    fresh.pipe_file(f"{BUCKET}/pushed/train-000001.tar", b"x" * (shards / "train-000001.tar").stat().st_size)
    fresh.rm_file(f"{BUCKET}/pushed/train-000002.tar")
    again = json.loads(push(shards, address, "--json").stdout)
    assert again["uploaded"] == ["train-000001.tar", "train-000002.tar"] and len(again["skipped"]) == NUM_SHARDS - 2
    assert sorted(ids(load(address, options=ReadOptions(verify=True)))) == ALL
    third = push(shards, address)
    assert "0 tars sent" in third.stdout and "8 were there" in third.stdout


def break_off(patch, name):
    """Make the upload of this tar fail."""
    original = publish._Target.put

    def put(self, local, shard):
        if local.name == name:
            raise OSError("the line is cut")
        original(self, local, shard)

    patch.setattr(publish._Target, "put", put)


def names(s3, prefix):
    s3.invalidate_cache()
    return sorted(path.rpartition("/")[2] for path in s3.find(f"{BUCKET}/{prefix}"))


def test_a_push_that_breaks_off_is_not_read_and_goes_on(shards, s3, monkeypatch):
    address = f"s3://{BUCKET}/resumed"
    with monkeypatch.context() as patch:
        break_off(patch, "train-000005.tar")
        broken = push(shards, address, "--jobs", 1)
    assert broken.exit_code == 2 and "the line is cut" in broken.stderr
    assert "unfinished.json" in names(s3, "resumed") and "index.json" not in names(s3, "resumed")
    for each in (address, f"{address}/train-{{000000..000004}}.tar"):
        with pytest.raises(InputError, match=f"^{address}/unfinished.json: expected all shards of the set, found") as e:
            load(each)
        assert "\n" not in str(e.value)
    again = json.loads(push(shards, address, "--json").stdout)
    assert "train-000005.tar" in again["uploaded"] and "train-000004.tar" in again["skipped"]
    assert names(s3, "resumed") == names(s3, "mocap")
    assert sorted(ids(load(address))) == ALL


def test_replacing_removes_the_older_set_even_after_it_broke_off(shards, s3, tmp_path, monkeypatch):
    address = f"s3://{BUCKET}/replaced"
    fewer = write_shard_folder(tmp_path / "fewer", 2, 3, first_id=500)
    assert push(shards, address).exit_code == 0
    s3.pipe({f"{BUCKET}/replaced/{name}": b"of somebody else" for name in ("train-000077.tar", "notes.txt")})
    with monkeypatch.context() as patch:
        break_off(patch, "train-000001.tar")
        assert push(fewer, address, "--replace", "--jobs", 1).exit_code == 2
    assert "train-000007.tar" in names(s3, "replaced")  # nothing is removed before the new index exists
    assert push(fewer, address).exit_code == 0
    assert names(s3, "replaced") == [
        "index.json", "notes.txt", "train-000000.tar", "train-000001.tar", "train-000077.tar"
    ]  # fmt: skip
    mark = json.dumps({"shards": [{"name": "train-000001.tar"}, {"name": "train-000077.tar"}]}).encode()
    s3.pipe_file(f"{BUCKET}/replaced/unfinished.json", mark)  # as if interrupted after the index
    assert sorted(ids(load(address, options=ReadOptions(verify=True)))) == list(range(500, 506))
    assert push(fewer, address).exit_code == 0
    assert names(s3, "replaced") == ["index.json", "notes.txt", "train-000000.tar", "train-000001.tar"]


def test_an_older_index_is_no_list_of_what_to_remove_elsewhere(shards, tmp_path):
    names = ["../keep.tar", "/keep.tar", ["train-000008.tar"], None, "keep.tar", "x/train-000000.tar"]
    target = tmp_path / "set"
    target.mkdir()
    for path in (tmp_path / "keep.tar", target / "keep.tar", target / "train-000008.tar"):
        path.touch()
    for index in ({"shards": [{"name": each} for each in names]}, {"shards": [None]}, [1], {"shards": 3}):
        (target / "index.json").write_text(json.dumps(index))
        assert push(shards, target, "--replace").exit_code == 0
        assert (tmp_path / "keep.tar").is_file()
        assert {path.name for path in target.iterdir()} == {
            "keep.tar", "train-000008.tar", *(path.name for path in shards.iterdir())
        }  # fmt: skip


def test_push_refuses_other_shards_and_damaged_ones(server, shards, s3, tmp_path, monkeypatch):
    address = f"s3://{BUCKET}/taken"
    other = write_shard_folder(tmp_path / "other", 2, 3, first_id=500)
    assert push(shards, address).exit_code == 0
    refused = push(other, address)
    assert refused.exit_code == 2 and "found another index.json" in refused.stderr
    assert sorted(ids(load(address))) == ALL
    assert push(other, address, "--replace").exit_code == 0
    assert sorted(ids(load(address))) == list(range(500, 506))
    (other / "train-000001.tar").write_bytes(b"y" * (other / "train-000001.tar").stat().st_size)
    damaged = push(other, f"s3://{BUCKET}/damaged")
    assert damaged.exit_code == 2 and "train-000001.tar: sha256: expected" in damaged.stderr
    assert not s3.exists(f"{BUCKET}/damaged/index.json")
    use(monkeypatch, server.endpoint, AWS_SECRET_ACCESS_KEY="wrong")
    denied = push(shards, address)
    assert denied.exit_code == 2 and "access was denied" in denied.stderr
    nothing = push(tmp_path, address)
    assert nothing.exit_code == 2 and "index.json: expected the index of write_shards" in nothing.stderr


def test_push_to_a_folder(shards, tmp_path):
    assert push(shards, tmp_path / "copy").exit_code == 0
    assert sorted(ids(load(str(tmp_path / "copy"), options=ReadOptions(verify=True)))) == ALL
    (tmp_path / "copy" / "train-000000.tar").write_bytes(b"")
    assert "1 tars sent" in push(shards, tmp_path / "copy").stdout
    shutil.rmtree(tmp_path / "copy")


def test_dvc_pushes_and_pulls_shards(server, shards, s3, tmp_path, monkeypatch):
    """With the commands of docs/streaming.md."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):  # DVC requires them to be files
        monkeypatch.delenv(name)
    shutil.copytree(shards, "data/shards")

    def dvc(*arguments):
        done = subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    dvc("init", "--no-scm", "--quiet")
    dvc("remote", "add", "--default", "lab", f"s3://{BUCKET}/dvc")
    dvc("add", "--quiet", "data/shards")
    dvc("push")
    assert len(s3.find(f"{BUCKET}/dvc")) == NUM_SHARDS + 2  # tars, index, and the folder's file list
    shutil.rmtree("data/shards")
    shutil.rmtree(".dvc/cache")
    dvc("pull")
    assert sorted(ids(load("data/shards", options=ReadOptions(verify=True)))) == ALL
