import gzip
import hashlib
import io
import json
import tarfile
import zipfile

import hostile_tars as hostile
import pytest
from file_server import serve_files
from typer.testing import CliRunner

from fourdistill.cli import app
from fourdistill.errors import InputError
from fourdistill.sources.formats import FORMATS
from fourdistill.sources.public import download as download_module
from fourdistill.sources.public.catalogue import DATASETS, Archive, PublicDataset, find_dataset
from fourdistill.sources.public.download import download
from fourdistill.sources.public.fetch import fetch
from fourdistill.sources.public.unpack import unpack

BODY = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download_module._RETRIES, "backoff_factor", 0)
    with serve_files() as state:
        state.files["/film.zip"] = BODY
        yield state


def zip_of(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tar_of(*infos: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for info, content in infos:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def unpacked(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_download_is_verified_and_kept(server, tmp_path):
    path = tmp_path / "new" / "film.zip"
    assert download(f"{server.address}/film.zip", path, size=len(BODY), sha256=SHA256) == SHA256
    assert path.read_bytes() == BODY
    assert [entry.name for entry in path.parent.iterdir()] == ["film.zip"]
    assert download(f"{server.address}/film.zip", path, sha256=SHA256) == SHA256
    assert len(server.requests) == 1


def test_a_download_goes_on_where_it_was_cut(server, tmp_path):
    path, url = tmp_path / "film.zip", f"{server.address}/film.zip"
    server.cut_after = 300_000
    with pytest.raises(InputError, match="call again to go on"):
        download(url, path, sha256=SHA256)
    have = (tmp_path / "film.zip.part").stat().st_size
    assert not path.exists() and 0 < have <= 300_000
    assert download(url, path, sha256=SHA256) == SHA256
    assert server.requests == [("/film.zip", None), ("/film.zip", f"bytes={have}-")]
    assert path.read_bytes() == BODY


@pytest.mark.parametrize("change", [{"tag": '"two"'}, {"tag": ""}, {"tag": 'W/"weak"'}, {"ranges": False}])
def test_a_download_begins_anew_where_pieces_might_not_fit(server, tmp_path, change):
    path, url = tmp_path / "film.zip", f"{server.address}/film.zip"
    if change.get("tag") != '"two"':
        server.tag = change.get("tag", server.tag)  # from the first try: nothing identifies the file
    server.cut_after = 300_000
    with pytest.raises(InputError):
        download(url, path)
    server.files["/film.zip"] = BODY[::-1]
    for name, value in change.items():
        setattr(server, name, value)
    assert download(url, path) == hashlib.sha256(BODY[::-1]).hexdigest()


def test_a_part_that_was_whole_already(server, tmp_path):
    """The process was killed between the last byte and the rename."""
    (tmp_path / "film.zip.part").write_bytes(BODY)
    (tmp_path / "film.zip.part.etag").write_text(server.tag)
    assert download(f"{server.address}/film.zip", tmp_path / "film.zip", sha256=SHA256) == SHA256
    assert [entry.name for entry in tmp_path.iterdir()] == ["film.zip"]


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.busy = 2
    assert download(f"{server.address}/film.zip", tmp_path / "film.zip") == SHA256
    server.busy = 9
    with pytest.raises(InputError, match="status 503"):
        download(f"{server.address}/film.zip", tmp_path / "other.zip")


def test_what_is_not_as_published_is_removed(server, tmp_path):
    path, url = tmp_path / "film.zip", f"{server.address}/film.zip"
    with pytest.raises(InputError, match=f"expected SHA-256 {'0' * 64}, got {SHA256}; the file is removed"):
        download(url, path, sha256="0" * 64)
    with pytest.raises(InputError, match=r"expected 5 bytes, the server has 1048576"):
        download(url, path, size=5)
    with pytest.raises(InputError, match="status 404"):
        download(f"{server.address}/gone.zip", path)
    assert not path.exists()
    with pytest.raises(InputError, match="expected to download it"):
        download("http://127.0.0.1:9/film.zip", path)


@pytest.mark.parametrize("as_tar", [False, True])
def test_unpacking_drops_one_outer_folder_of_folders(tmp_path, as_tar):
    members = {"data/lego/a.json": b"{}", "data/lego/train/r_0.png": b"png", "data/hook/a.json": b"[]"}
    infos = [(tarfile.TarInfo(name), content) for name, content in members.items()]
    (tmp_path / "archive").write_bytes(tar_of(*infos) if as_tar else zip_of(**members))
    assert unpack(tmp_path / "archive", tmp_path / "out") == 3
    assert unpacked(tmp_path / "out") == {name.removeprefix("data/"): content for name, content in members.items()}


def test_unpacking_keeps_a_scene_of_files(tmp_path):
    (tmp_path / "a.zip").write_bytes(zip_of(**{"coffee/cam00.mp4": b"film", "coffee/poses_bounds.npy": b"poses"}))
    unpack(tmp_path / "a.zip", tmp_path / "out")
    assert set(unpacked(tmp_path / "out")) == {"coffee/cam00.mp4", "coffee/poses_bounds.npy"}


def test_unpacking_some_folders(tmp_path):
    (tmp_path / "a.whl").write_bytes(
        zip_of(**{"P/Demo/videos/cam01.mp4": b"film", "P/Demo/a.txt": b"a", "P/code.py": b"import os"})
    )
    taken = [("P/Demo/videos", "single/videos"), ("P/Demo/a.txt", "single/b.txt")]
    assert unpack(tmp_path / "a.whl", tmp_path / "out", taken) == 2
    assert unpacked(tmp_path / "out") == {"single/videos/cam01.mp4": b"film", "single/b.txt": b"a"}
    with pytest.raises(InputError, match="expected files in P/Other, found none"):
        unpack(tmp_path / "a.whl", tmp_path / "other", [("P/Other", "single")])


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil.txt", "a/../../evil.txt", "C:/evil.txt", "a\\..\\evil.txt"])
@pytest.mark.parametrize("as_tar", [False, True])
def test_member_names_that_lead_elsewhere(tmp_path, name, as_tar):
    content = tar_of((tarfile.TarInfo(name), b"x")) if as_tar else zip_of(**{name: b"x"})
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(InputError, match="expected a path inside the archive"):
        unpack(tmp_path / "archive", tmp_path / "in" / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["archive"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    info = tarfile.TarInfo("scene/link")
    info.type, info.linkname = kind, "../../secret"
    (tmp_path / "a.tar").write_bytes(tar_of((info, b"")))
    with pytest.raises(InputError, match="found a link or device"):
        unpack(tmp_path / "a.tar", tmp_path / "out")


def test_a_link_in_a_zip_file_is_refused(tmp_path):
    link = zipfile.ZipInfo("scene/link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc")
    with pytest.raises(InputError, match="found a link or device"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_damaged_archives_and_bombs(tmp_path):
    whole = zip_of(**{"scene/film.mp4": BODY, "scene/b.txt": b"b"})
    for name, content in {
        "bomb.zip": zip_of(zeros=bytes(300_000_000)),
        "text.zip": b"no archive at all",
        "empty.zip": zip_of(),
        "half.tar.gz": tar_of((tarfile.TarInfo("a"), BODY))[:900],
        "twice.tar": tar_of((tarfile.TarInfo("a"), b"1"), (tarfile.TarInfo("a"), b"2"), mode="w"),
        "both.tar": tar_of((tarfile.TarInfo("a"), b"1"), (tarfile.TarInfo("a/b"), b"2"), mode="w"),
        "bit.zip": whole.replace(whole[100:110], bytes(10), 1),
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            unpack(tmp_path / name, tmp_path / f"out of {name}")


@pytest.mark.parametrize(
    "start",
    [
        hostile.long_name(),
        hostile.long_records(),
        hostile.names_upon_names(),
        hostile.old_holes("film.mp4", 2**19),
        hostile.holes_in_the_member("film.mp4", 2**19),
        hostile.records("film.mp4", 0, GNU_sparse_map="many"),
    ],
)
def test_headers_that_would_eat_memory(tmp_path, start):
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(start + tar_of((tarfile.TarInfo("b.mp4"), BODY), mode="w")))
    with pytest.raises(InputError, match=r"a\.tar\.gz: expected a"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")


def dataset_at(address, *parts):
    archives = tuple(Archive(part, f"{address}/{part}.zip") for part in parts)
    return PublicDataset("toy", "a toy", "dynerf", "CC0", "http://127.0.0.1", archives)


def test_fetching_adds_scenes_whole(server, tmp_path):
    toy = dataset_at(server.address, "one", "two")
    server.files["/one.zip"] = zip_of(**{"one/cam00.mp4": b"1", "one/poses_bounds.npy": b"p"})
    server.files["/two.zip"] = zip_of(**{"two/cam00.mp4": b"2", "../two.txt": b"p"})
    out, downloads = tmp_path / "raw" / "toy", tmp_path / "downloads"
    with pytest.raises(InputError, match="expected a path inside the archive"):
        fetch(toy, toy.archives, out, downloads)
    assert not out.exists() and not out.with_name(".toy.partial").exists()
    (done,) = fetch(toy, toy.choose(["one"]), out, downloads)
    assert (done.part, done.num_files) == ("one", 2)
    assert set(unpacked(out)) == {"one/cam00.mp4", "one/poses_bounds.npy"}
    with pytest.raises(InputError, match="expected nothing there yet"):
        fetch(toy, toy.choose(["one"]), out, downloads)
    assert [path for path, _ in server.requests] == ["/one.zip", "/two.zip"]  # downloaded files are kept


def test_the_catalogue_names_readers_and_safe_addresses():
    assert len({dataset.name for dataset in DATASETS}) == len(DATASETS)
    for dataset in DATASETS:
        assert dataset.format in FORMATS
        assert len({archive.part for archive in dataset.archives}) == len(dataset.archives)
        for archive in dataset.archives:
            assert archive.is_wheel or archive.address.startswith("https://")
            assert archive.sha256 is None or len(archive.sha256) == 64
    with pytest.raises(InputError, match="NAME: expected one of dnerf"):
        find_dataset("kubric")
    with pytest.raises(InputError, match="--part: expected one of coffee_martini"):
        find_dataset("neural-3d-video").choose(["tea"])


def test_the_command_lists_and_refuses():
    table = CliRunner().invoke(app, ["fetch", "--json"])
    assert {entry["name"] for entry in json.loads(table.stdout)} == {dataset.name for dataset in DATASETS}
    refused = CliRunner().invoke(app, ["fetch", "kubric"])
    assert refused.exit_code == 2 and refused.stderr.startswith("error: NAME: expected one of")
