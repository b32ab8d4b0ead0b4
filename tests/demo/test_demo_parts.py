"""Parts of the page, without a browser."""

import base64
import errno
import os
import re
import signal
import socket
import threading
from io import BytesIO

import av
import gradio as gr
import numpy as np
import pytest
from gradio.route_utils import delete_files_created_by_app
from PIL import Image, ImageSequence
from tiny_adapters import start_tiny_adapter

from fourdistill.demo.address import bracketed, check_address, without_proxies
from fourdistill.demo.artist import Artist, Command, Stopped
from fourdistill.demo.captions import describe
from fourdistill.demo.controls import Controls, lay_out_dial, lay_out_more, lay_out_prompt, lay_out_time, read_command
from fourdistill.demo.dial import read_azimuth
from fourdistill.demo.film import BOTH, GRID, ORBIT, TIME, lay_out_film, lay_out_path, read_film
from fourdistill.demo.handlers import Handlers
from fourdistill.demo.jobs import Jobs
from fourdistill.demo.page import build_page
from fourdistill.demo.serve import find_examples, launch, serve
from fourdistill.demo.show import show_film, show_picture
from fourdistill.errors import InputError
from fourdistill.inference.pipeline import FourDistillPipeline
from fourdistill.models.base.model import load_base
from fourdistill.models.settings import Sampling


@pytest.fixture(scope="module")
def pipe(tiny_base):
    base = load_base(str(tiny_base))
    return FourDistillPipeline.from_parts(base, start_tiny_adapter(base))


def noise_picture(size=(32, 32), seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def test_a_drawing_is_a_sweep_of_the_pipeline_and_says_how_far_it_is(pipe):
    artist, picture, steps = Artist(pipe), noise_picture(), []
    command = Command(time=0.25, elevation=10.0, num_inference_steps=2, seed=3)
    frames = [(0.25, 0.0), (0.25, 45.0)]
    images = artist.draw(
        artist.look_at(picture), command, lambda *step: steps.append(step), threading.Event(), frames=frames
    )
    [expected] = zip(*pipe.sweep(picture, [0.25], [0.0, 45.0], 10.0, 1.0, seed=3, num_inference_steps=2), strict=True)
    for image, wanted in zip(images, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(image), np.asarray(wanted))
    assert steps == [(1, 2), (2, 2)]


def test_the_strength_of_the_prompt_reaches_the_pipeline(pipe):
    artist, picture = Artist(pipe), noise_picture()
    drawn = {}
    for strength in (0.0, 0.5):
        command = Command(prompt="a man in a red top", prompt_strength=strength, num_inference_steps=2)
        [image] = artist.draw(artist.look_at(picture), command, lambda *_: None, threading.Event())
        where = {"time": 0.0, "azimuth": 0.0, "elevation": 0.0, "radius": 1.0}
        [expected] = pipe(
            picture, command.prompt, prompt_strength=strength, seed=0, num_inference_steps=2, **where
        ).images
        drawn[strength] = np.asarray(image)
        assert np.array_equal(drawn[strength], np.asarray(expected))
    assert not np.array_equal(drawn[0.0], drawn[0.5])


def test_what_the_page_sends_is_a_command():
    with gr.Blocks():
        more = lay_out_more(Sampling(guidance_scale=1.5, noise_scale=0.25), num_inference_steps=7)
        controls = Controls(**lay_out_dial(), **lay_out_time(), **lay_out_prompt(), **more)
    sent = {component: component.value for component in controls.all}
    assert read_command(controls, sent) == Command(guidance_scale=1.5, noise_scale=0.25, num_inference_steps=7)
    sent |= {controls.prompt: "a man", controls.prompt_strength: 0.25, controls.steer: ["time"]}
    command = read_command(controls, sent)
    assert (command.prompt, command.prompt_strength, command.time, command.azimuth) == ("a man", 0.25, 0.0, None)


def test_a_stopped_drawing_ends_at_its_next_step_and_lets_others_draw(pipe):
    artist, stop, steps = Artist(pipe), threading.Event(), []
    seen = artist.look_at(noise_picture())

    def stop_after_two(done, total):
        steps.append(done)
        if done == 2:
            stop.set()

    with pytest.raises(Stopped):
        artist.draw(seen, Command(num_inference_steps=9), stop_after_two, stop)
    assert steps == [1, 2]
    assert artist.draw(seen, Command(num_inference_steps=1), lambda *_: None, threading.Event())


def test_stopping_reaches_ones_own_drawings_alone():
    jobs = Jobs()
    with jobs.running("me") as mine, jobs.running("you") as yours:
        jobs.stop("me")
        assert mine.is_set() and not yours.is_set()
    jobs.stop("me")  # nothing runs any more
    with jobs.running("me") as again:
        assert not again.is_set()


def test_a_new_drawing_stops_the_older_ones_and_a_refinement_no_preview():
    jobs = Jobs()
    with jobs.running("me") as preview, jobs.running("me", refines=True) as refinement:
        assert not preview.is_set()
        with jobs.running("me", refines=True):
            assert refinement.is_set() and not preview.is_set()
        with jobs.running("me"):
            assert preview.is_set()


@pytest.mark.parametrize("sent", [181, -200.5, "90", None, [1], float("nan")])
def test_the_dial_accepts_angles_alone(sent):
    with pytest.raises(gr.Error, match="azimuth: expected -180 to 180"):
        read_azimuth(sent)
    assert read_azimuth(-45) == -45.0


def film_of(path, command, **changed):
    with gr.Blocks():
        inputs = lay_out_film(lay_out_path())
    given = {part: part.value for part in inputs.all} | {
        getattr(inputs, name): value for name, value in changed.items()
    }
    return read_film(inputs, command, given | {inputs.path: path})


def test_a_film_moves_what_its_path_names():
    command = Command(time=0.25, azimuth=30.0)
    assert film_of(TIME, command, count=3).frames == [(-0.5, 30.0), (0.0, 30.0), (0.5, 30.0)]
    assert film_of(ORBIT, command, count=4).frames == [(0.25, 30.0 + turn) for turn in (0, 90, 180, 270)]
    assert film_of(ORBIT, command, count=3, turn=90).frames == [(0.25, 30.0), (0.25, 75.0), (0.25, 120.0)]
    assert film_of(BOTH, command, count=2, turn=90).frames == [(-0.5, 30.0), (0.5, 120.0)]
    grid = film_of(GRID, command, columns=2, rows=3, turn=90)
    assert grid.num_columns == 2 and grid.frames[:3] == [(-0.5, 30.0), (0.5, 30.0), (-0.5, 75.0)]
    assert film_of(TIME, Command(time=None, azimuth=None), count=2).frames == [(-0.5, None), (0.5, None)]


def test_a_command_is_described_in_words():
    command = Command(time=-0.3, azimuth=-30, elevation=10, radius=1.5)
    assert describe(command) == "0.30 earlier, camera 30° to the left, 10° up, distance × 1.50"
    assert describe(Command()) == "same instant, camera where it was"


def saved(page, kind):
    """The file behind a link of the page."""
    [content] = re.findall(rf'href="data:{kind};base64,([^"]+)', page)
    return BytesIO(base64.b64decode(content))


def test_pictures_and_films_go_into_the_page_whole():
    pictures = [noise_picture(seed=i) for i in range(3)]
    film = show_film([[(f"<{i}>", image) for i, image in enumerate(pictures)]], "a <b>", "time-sweep")
    assert "<b>" not in film and "&lt;2&gt;" in film and 'download="time-sweep.gif"' in film
    assert len(list(ImageSequence.Iterator(Image.open(saved(film, "image/gif"))))) == 3
    with av.open(saved(film, "video/mp4"), mode="r") as video:
        assert len(list(video.decode(video=0))) == 3
    assert Image.open(saved(film, "image/png")).size == (96, 32)
    page = show_picture(pictures[0], 'a "b"')
    assert np.array_equal(np.asarray(Image.open(saved(page, "image/png"))), np.asarray(pictures[0]))
    assert "href" not in show_picture(pictures[0], "words", "a preview")  # is not to be saved


def test_a_taken_port_is_bad_input_and_leaves_nothing(pipe, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # restored afterwards
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = signal.getsignal(signal.SIGTERM)
    with (
        socket.socket() as taken,
        pytest.raises(InputError, match=r"^--port: expected a free port, found \d+ of 127\.0\.0\.1 taken$"),
    ):
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        serve(
            pipe, examples=tmp_path / "none", num_inference_steps=2, host="127.0.0.1", port=port, open_browser=False,
            announce=print,
        )  # fmt: skip
    signal.signal(signal.SIGTERM, before)
    assert list(tmp_path.iterdir()) == []


def test_cleaning_removes_uploads_and_keeps_the_examples(pipe, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    noise_picture().save(tmp_path / "one.png")
    upload = tmp_path / "upload.png"
    upload.touch()
    page = build_page(Handlers(Artist(pipe), [tmp_path / "one.png"]), pipe.adapter.sampling, num_inference_steps=2)
    page.upload_file_set.add(str(upload))
    delete_files_created_by_app(page, age=None)  # runs every minute on files older than `delete_cache` allows
    assert not upload.exists()
    assert [path.name for path in (tmp_path / "cache").rglob("*.png")] == ["one.png"]


def test_examples_are_the_pictures_of_a_folder(tmp_path):
    for name in ("b.PNG", "a.jpg", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in find_examples(tmp_path)] == ["a.jpg", "b.PNG"]
    assert find_examples(tmp_path / "none") == []


@pytest.mark.parametrize("host", ["256.1.1.1", "no-such-host.invalid", "", "192.0.2.1", "http://127.0.0.1", "a" * 70])
def test_a_host_that_is_not_this_machine_is_one_line(host):
    with pytest.raises(InputError, match=r"^--host: expected a name or address of this machine, found") as caught:
        check_address(host, 7860)
    assert "\n" not in str(caught.value)


def free_port(family=socket.AF_INET):
    with socket.socket(family) as probe:
        try:
            probe.bind(("localhost" if family == socket.AF_INET else "::1", 0))
        except OSError:
            pytest.skip("this machine has no such address")
        return probe.getsockname()[1]


@pytest.mark.parametrize("missing", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_of_a_name_with_several_addresses_one_is_enough(missing, monkeypatch):
    """`localhost` can be ::1 and 127.0.0.1 with IPv6 off: the socket family or the address is missing."""
    port = free_port()
    addresses = [
        (socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("::1", port, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)),
    ]

    class WithoutIPv6(socket.socket):
        def __init__(self, family=socket.AF_INET, *args):
            if family == socket.AF_INET6 and missing == errno.EAFNOSUPPORT:
                raise OSError(missing, os.strerror(missing))
            super().__init__(socket.AF_INET, *args)

        def bind(self, address):
            if address[0] == "::1":
                raise OSError(missing, os.strerror(missing))
            super().bind(address)

    monkeypatch.setattr("fourdistill.demo.address.socket.socket", WithoutIPv6)
    monkeypatch.setattr("fourdistill.demo.address.socket.getaddrinfo", lambda *_, **__: addresses)
    assert check_address("localhost", port) == "127.0.0.1"
    del addresses[1]
    with pytest.raises(InputError, match=r"^--host: expected a name or address of this machine, found 'localhost'"):
        check_address("localhost", port)


BROKEN = {
    "HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "socks5://127.0.0.1:9", "NO_PROXY": "example.org", "SSL_CERT_FILE": "/no/such/file",
}  # fmt: skip


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::1", "[::1]"])
def test_the_page_is_served_whatever_proxies_there_are(host, pipe, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    for name, value in BROKEN.items():
        monkeypatch.setenv(name, value)
    port = free_port(socket.AF_INET6 if ":" in host else socket.AF_INET)
    assert check_address(host, port) == host
    page = build_page(Handlers(Artist(pipe), []), pipe.adapter.sampling, num_inference_steps=2)
    try:
        with without_proxies():
            launch(page, [], host, port)
        assert page.local_url == f"http://{bracketed('localhost' if host == '0.0.0.0' else host)}:{port}/"
    finally:
        page.close(verbose=False)
    assert {name: os.environ[name] for name in BROKEN} == BROKEN  # for the browser that is opened
