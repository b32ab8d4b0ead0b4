"""A format is one module in `sources/readers/` and one line in `sources/formats.py`."""

import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

from fourdistill.errors import InputError
from fourdistill.sources import readers
from fourdistill.sources.formats import FORMATS, Format, load_format
from fourdistill.sources.inspect.facts import find_format
from fourdistill.sources.readers import SourceFolder, read_source

ROOT = Path(__file__).parents[2]
TENTH = """
from fourdistill.scene import Scene, Video
from fourdistill.sources.formats import Format

def read(folder):
    return [Scene("only", (Video("cam00", folder / "film.tenth"),))]

FORMAT = Format(read, lambda folder: (folder / "film.tenth").exists())
"""


def test_every_reader_has_its_line_and_every_line_its_reader():
    modules = [f"{readers.__name__}.{module.name}" for module in iter_modules(readers.__path__)]
    written = {f"{name}:FORMAT" for name in modules if hasattr(import_module(name), "FORMAT")}
    assert written == set(FORMATS.values()) and len(FORMATS) == len(written)
    assert all(isinstance(load_format(name), Format) for name in FORMATS)


def test_what_no_other_format_recognises_is_plain_films():
    assert list(FORMATS)[-1] == "video"


@pytest.fixture
def lines():
    """The table, to be changed by one test."""
    own = dict(FORMATS)
    yield FORMATS
    FORMATS.clear()
    FORMATS.update(own)


def test_a_further_line_is_all_that_a_further_format_takes(tmp_path, monkeypatch, lines):
    code, raw = tmp_path / "code", tmp_path / "raw"
    code.mkdir()
    raw.mkdir()
    (code / "tenth_reader.py").write_text(TENTH)
    (raw / "film.tenth").write_bytes(b"")
    monkeypatch.syspath_prepend(str(code))
    assert find_format(raw) == "video"
    with pytest.raises(InputError, match=r"format: expected one of colmap, .*, video, got 'tenth'"):
        read_source(SourceFolder(raw, "tenth"))
    video = lines.pop("video")
    lines |= {"tenth": "tenth_reader:FORMAT", "video": video}
    assert find_format(raw) == "tenth"
    (scene,) = read_source(SourceFolder(raw, "tenth"))
    assert scene.name == "only"


def test_the_guide_has_a_row_for_each():
    table = (ROOT / "docs/data.md").read_text(encoding="utf-8").partition("\n## Formats\n")[2].partition("\n###")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(FORMATS)
