"""Tars crafted to exhaust memory are counted as broken before they do."""

import shutil
import tarfile

import hostile_tars as hostile
import pytest
from shard_folders import ids, write_shard_folder

from fourdistill.shards.loader import samples
from fourdistill.shards.loader.batches import ReadOptions, make_loader
from fourdistill.storage.tars import MAX_EXTENDED

NAME = "000000005.json"
LARGE = 2**20  # above the limit of these tests


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Two shards of five samples. Read only."""
    return write_shard_folder(tmp_path_factory.mktemp("hostile") / "shards", 2, 5)


def read(shards, tmp_path, start, monkeypatch):
    """Ids and report with `start` put before the second shard, or applied to it if callable."""
    monkeypatch.setattr(samples, "MAX_MEMBER", LARGE // 2)
    folder = shutil.copytree(shards, tmp_path / "shards", ignore=lambda *_: ["index.json"])
    path = folder / "train-000001.tar"
    path.write_bytes(start(path.read_bytes()) if callable(start) else start + path.read_bytes())
    loader = make_loader(folder, "train", 4, seed=0, shuffle=False, epochs=1, options=ReadOptions(max_bad_fraction=1))
    return ids(loader), loader.report.counts()


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (hostile.long_name(), f"expected an extended header of at most {MAX_EXTENDED} bytes"),
        (hostile.long_records(), f"expected an extended header of at most {MAX_EXTENDED} bytes"),
        (hostile.long_records(tarfile.XGLTYPE), f"expected an extended header of at most {MAX_EXTENDED} bytes"),
        (hostile.names_upon_names(), "RecursionError"),
        (hostile.header(NAME, tarfile.REGTYPE, LARGE) + bytes(LARGE), f"{NAME}: expected at most"),
        (hostile.records(NAME, 0, size=str(LARGE)), f"{NAME}: expected at most"),
        (hostile.old_holes(NAME, LARGE // 4), "expected no file with holes"),
        (hostile.holes(NAME, LARGE // 4), f"{NAME}: expected at most"),
        (hostile.holes_in_the_member(NAME, LARGE // 4), "expected no file with holes"),
        (hostile.compressed, "skipped after 0 samples"),
    ],
)
def test_hostile_tars_are_broken(shards, tmp_path, start, reason, monkeypatch, caplog):
    seen, report = read(shards, tmp_path, start, monkeypatch)
    assert seen == list(range(5))
    assert report["shards_broken"] == 1 and report["samples_undecodable"] == 0
    assert reason in caplog.text


@pytest.mark.parametrize(
    "start",
    [
        hostile.header("notes", tarfile.REGTYPE, LARGE) + bytes(LARGE),  # large, but not needed
        hostile.header("folder", tarfile.DIRTYPE, 0),
        hostile.records("folder/notes.txt", 0, comment="by tar --format=pax"),
        hostile.long_name(1000) + hostile.header("notes", tarfile.REGTYPE, 0),
    ],
)
def test_other_members_do_no_harm(shards, tmp_path, start, monkeypatch):
    seen, report = read(shards, tmp_path, start, monkeypatch)
    assert seen == list(range(10)) and report["shards_broken"] == 0


def test_members_that_share_a_key_are_not_gathered(shards, tmp_path, monkeypatch):
    """Only the members of a sample are kept, not other members with its key."""
    start = b"".join(hostile.header(f"000000005.{i}.json", tarfile.REGTYPE, 0) for i in range(20))
    kept = []
    decode = samples.group_by_keys

    def spy(*args, **kwargs):
        for sample in decode(*args, **kwargs):
            kept.append(len(sample))
            yield sample

    monkeypatch.setattr(samples, "group_by_keys", spy)
    seen, _ = read(shards, tmp_path, start, monkeypatch)
    assert seen == list(range(10)) and max(kept) == 5
