"""Files appear complete or not at all, also if their writers are killed or write concurrently."""

import hashlib
import multiprocessing
import os
import signal
import threading

import fsspec
import pytest

from fourdistill.storage.files import new_file, new_folder, sha256


def write_half(path, started):
    with new_file(path) as partial:
        partial.write_text("half")
        started.set()
        signal.pause()


@pytest.fixture
def writer(tmp_path):
    """A process that is in the middle of writing a file."""
    context = multiprocessing.get_context("fork")
    started = context.Event()
    process = context.Process(target=write_half, args=(tmp_path / "table [1].txt", started))
    process.start()
    assert started.wait(60)
    yield process
    process.kill()
    process.join()


def test_what_a_killed_writer_left_goes_with_the_next(tmp_path, writer):
    path = tmp_path / "table [1].txt"
    others = [tmp_path / ".table [1].txt.notes.partial", tmp_path / ".other.txt.1-1.partial"]
    for other in others:
        other.write_text("not ours")
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert len(list(tmp_path.iterdir())) == 3 and not path.exists()
    with new_file(path) as partial:
        partial.write_text("whole")
    assert path.read_text() == "whole"
    assert set(tmp_path.iterdir()) == {path, *others}


def test_a_living_writer_keeps_its_file(tmp_path, writer):
    path = tmp_path / "table [1].txt"
    with new_file(path) as partial:
        partial.write_text("whole")
    assert path.read_text() == "whole"
    (its,) = set(tmp_path.iterdir()) - {path}
    assert its.read_text() == "half"


def test_threads_write_files_of_their_own(tmp_path):
    path, together, seen = tmp_path / "table.txt", threading.Barrier(2, timeout=60), []

    def write(text):
        with new_file(path) as partial:
            partial.write_text(text)
            together.wait()
            seen.append(partial.read_text() == text)
            together.wait()

    threads = [threading.Thread(target=write, args=(text,)) for text in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True, True] and path.read_text() in ("one", "two")
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_said_of_the_file_that_was_asked_for(tmp_path):
    path = tmp_path / "table.txt"
    with pytest.raises(OSError, match="No space left on device") as caught, new_file(path) as partial:
        partial.symlink_to("/dev/full")
        partial.write_text("whole")
    assert caught.value.filename == str(path) and not list(tmp_path.iterdir())
    with (
        pytest.raises(OSError, match="No space left on device") as caught,
        new_folder(tmp_path / "set", set()) as folder,
        new_file(folder / "a" / "b.txt") as partial,
    ):
        partial.symlink_to("/dev/full")
        partial.write_text("whole")
    assert caught.value.filename == str(tmp_path / "set" / "a" / "b.txt") and not list(tmp_path.iterdir())


def test_an_error_about_another_file_stays_what_it_is(tmp_path):
    other = tmp_path / "other.txt"
    with pytest.raises(FileNotFoundError) as caught, new_file(tmp_path / "table.txt"):
        other.read_text()
    assert caught.value.filename == str(other)


def test_checksums_of_files_open_ones_and_those_of_other_file_systems(tmp_path):
    content = bytes(range(256)) * 8192  # 2 MiB
    path, expected = tmp_path / "film.mp4", hashlib.sha256(content).hexdigest()
    path.write_bytes(content)
    assert sha256(path) == expected
    fsspec.filesystem("memory").pipe_file(f"/{tmp_path.name}/film.mp4", content)
    for address in (f"file://{path}", f"memory://{tmp_path.name}/film.mp4"):
        with fsspec.open(address, "rb") as file:
            assert sha256(file) == expected
