"""Animations have the duration of their frame rate, wherever they are written."""

import base64
import re
from fractions import Fraction
from io import BytesIO
from typing import Any, cast

import av
import numpy as np
import pytest
from PIL import Image

from fourdistill.animation import exact_rate, gif_delays_ms, save_gif
from fourdistill.demo.show import show_film
from fourdistill.errors import InputError
from fourdistill.evaluation.report.pictures import save_there_and_back
from fourdistill.media import write_pictures


def pictures(count):
    return [Image.fromarray(np.full((16, 16, 3), 4 * i, np.uint8)) for i in range(count)]


def delays_of(file):
    gif: Any = Image.open(file)
    delays = []
    for frame in range(gif.n_frames):
        gif.seek(frame)
        delays.append(gif.info["duration"])
    return delays


@pytest.mark.parametrize("rate", [0.1, 3, 8, 12.5, 15, 23.976, 24, 25, 29.97, 30, 48, 50])
def test_a_gif_lasts_as_long_as_its_rate_says_at_every_frame(rate, tmp_path):
    write_pictures(tmp_path / "a.gif", [pictures(60)], rate)
    delays = delays_of(tmp_path / "a.gif")
    assert len(delays) == 60 and min(delays) >= 20  # browsers extend shorter delays to 100 ms
    assert np.abs(np.cumsum(delays) - 1000 * np.arange(1, 61) / rate).max() <= 5  # half of a GIF's time unit


def test_delays_of_known_rates():
    assert gif_delays_ms(4, 8) == [120, 130, 130, 120]
    assert gif_delays_ms(6, 30) == [30, 40, 30, 30, 40, 30]
    assert gif_delays_ms(3, 50) == [20, 20, 20]


def test_a_picture_that_stays_is_shown_for_all_of_its_frames():
    file = BytesIO()
    save_gif(file, [*pictures(1) * 3, *pictures(2)[1:]], 8)
    assert delays_of(file) == [380, 120]


def test_every_gif_is_written_by_the_same_rule(tmp_path):
    save_there_and_back(tmp_path / "a.gif", pictures(3))
    assert delays_of(tmp_path / "a.gif") == [200] * 4
    film = show_film([[("", picture) for picture in pictures(4)]], "x", "time")
    [content] = re.findall(r'href="data:image/gif;base64,([^"]+)', film)
    assert delays_of(BytesIO(base64.b64decode(content))) == [120, 130, 130, 120]


@pytest.mark.parametrize(
    ("rate", "fraction"), [(8, 8), (29.97003, Fraction(30000, 1001)), (23.976, Fraction(2997, 125)), (0.1, 0.1)]
)
def test_an_mp4_has_its_rate_as_a_fraction(rate, fraction, tmp_path):
    write_pictures(tmp_path / "a.mp4", [pictures(30)], rate)
    with av.open(str(tmp_path / "a.mp4"), mode="r") as film:
        stream = film.streams.video[0]
        times = [frame.time for frame in cast(Any, film).decode(video=0)]
        assert exact_rate(rate) == stream.average_rate == pytest.approx(fraction)
        assert np.allclose(times, np.arange(30) / float(fraction), atol=1e-4)
        assert film.duration is not None and film.duration / 1e6 == pytest.approx(30 / rate, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "rate", "words"),
    [
        ("a.gif", 50.1, "fps: expected at most 50 frames a second for a GIF"),
        ("a.GIF", 100, "an MP4 takes up to 100"),
        ("a.mp4", 101, "fps: expected 0.1 to 100"),
        ("a.gif", 0, "fps: expected 0.1 to 100"),
        ("a.mp4", float("nan"), "fps: expected 0.1 to 100"),
    ],
)
def test_a_rate_that_a_file_cannot_have_is_refused(name, rate, words, tmp_path):
    with pytest.raises(InputError, match=words):
        write_pictures(tmp_path / name, [pictures(2)], rate)
    assert not list(tmp_path.iterdir())
