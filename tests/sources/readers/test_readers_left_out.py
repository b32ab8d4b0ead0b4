"""System files are ignored; other unused files are counted; one bad file does not make the source fail."""

import errno
import json
import os
import zipfile
from collections import Counter

import numpy as np
import pytest
from format_writers import (
    CENTRAL,
    FORMATS,
    GENERAL,
    save,
    write_colmap_text,
    write_dynerf,
    write_json,
    write_nerfstudio,
    write_qualisys,
    write_realestate10k,
)
from stage_settings import frame_settings
from test_readers_fuzz import write_ucf101
from tiny_scenes import gray_film, poses_bounds, qualisys_xml, ring_cameras, write_film
from typer.testing import CliRunner

from fourdistill.cli import app
from fourdistill.errors import InputError
from fourdistill.frames.extract import extract_frames
from fourdistill.scene import Pictures
from fourdistill.sources.inspect.facts import find_format, inspect_folder
from fourdistill.sources.public.unpack import unpack
from fourdistill.sources.readers import ReadFolder, SourceFolder, read_folder, read_source
from fourdistill.sources.system_files import is_system_file
from fourdistill.tables import FRAMES, read_table

IDS = [form.write.__name__.removeprefix("write_") for form in FORMATS]
LITTER = (
    ".DS_Store", "._{name}", "Thumbs.db", "THUMBS.DB", "desktop.ini", "__MACOSX/._{name}", "__MACOSX/scene/{name}",
    "@eaDir/{name}", "$RECYCLE.BIN/{name}", "System Volume Information/IndexerVolumeGuid", "lost+found/{name}",
    ".ipynb_checkpoints/{name}", ".git/HEAD", ".Trash-1000/files/{name}", "#recycle/{name}", ".Spotlight-V100/x",
)  # fmt: skip


def litter(folder):
    """Add system files to a folder and its subfolders, some named after files that are there."""
    for here in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        names = [path.name for path in here.iterdir() if path.is_file()][:1] or ["scene.txt"]
        for pattern in LITTER:
            path = here / pattern.format(name=names[0])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"\0\5\26\7" + bytes(80))


def left_out_of(folder, format_name) -> dict[str, int]:
    return {row.reason: row.count for row in read_folder(SourceFolder(folder, format_name)).left_out}


@pytest.mark.parametrize("form", FORMATS, ids=IDS)
def test_what_systems_leave_is_no_data(tmp_path, form):
    form.write(tmp_path / "scene", GENERAL if form.general else CENTRAL)
    expected, before = read_source(SourceFolder(tmp_path, form.name)), left_out_of(tmp_path, form.name)
    litter(tmp_path)
    assert find_format(tmp_path) == form.name
    assert repr(read_source(SourceFolder(tmp_path, form.name))) == repr(expected)
    after = left_out_of(tmp_path, form.name)
    assert after.pop("hidden, or left by a system") >= len({name.split("/")[0] for name in LITTER})
    assert after == before


def test_films_and_classes_among_what_systems_leave(tmp_path):
    write_film(tmp_path / "video" / "duo" / "a.mp4", gray_film([1, 2]))
    write_film(tmp_path / "video" / "alone.mp4", gray_film([1, 2]))
    write_ucf101(tmp_path / "ucf101")
    for name in ("video", "ucf101"):
        expected = read_source(SourceFolder(tmp_path / name, name))
        litter(tmp_path / name)
        assert repr(read_source(SourceFolder(tmp_path / name, name))) == repr(expected)


@pytest.mark.parametrize("name", ["scene", "cam00.mp4", "System", "recycle", "a.DS_Store", "thumbs"])
def test_names_of_data(name):
    assert not is_system_file(name)


def test_archives_are_unpacked_without_it(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("jump/a/cam0.mp4", "jump/a/cam1.mp4", "__MACOSX/jump/a/._cam0.mp4", "jump/a/.DS_Store"):
            archive.writestr(name, b"x")
    assert unpack(tmp_path / "a.zip", tmp_path / "out") == 2
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["a", "cam0.mp4", "cam1.mp4"]


EXTRA = {"more/film.mp4": "film that no scene uses", "more/a.PNG": "picture that no scene uses"}


@pytest.mark.parametrize("form", FORMATS, ids=IDS)
def test_every_file_is_used_or_counted(tmp_path, form):
    """A complete scene has no unused video or picture; each extra file beside it is counted once."""
    form.write(tmp_path / "scene", GENERAL if form.general else CENTRAL)
    before = left_out_of(tmp_path / "scene" if form.name != "realestate10k" else tmp_path, form.name)
    assert set(before) <= {f"not read by format {form.name}"} and sum(before.values()) <= 2, before
    source = tmp_path if form.name == "realestate10k" else tmp_path / "scene"
    for name in (*EXTRA, "more/clip.xyz", "notes"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(b"x")
    after = left_out_of(source, form.name)
    assert {reason: after[reason] for reason in EXTRA.values()} == dict.fromkeys(EXTRA.values(), 1)
    assert after[f"not read by format {form.name}"] == sum(before.values()) + 2
    files = [path for path in source.rglob("*") if path.is_file()]
    assert sum(after.values()) + len(used(read_folder(SourceFolder(source, form.name)), source)) == len(files)


def used(found: ReadFolder, folder):
    """Files that a scene uses, counted independently."""
    films = [film for scene in found.scenes for film in scene.videos]
    paths = {p.path for film in films if isinstance(film, Pictures) for p in film.pictures}
    paths |= {film.path for film in films}
    described = (
        "transforms",
        "dataset",
        "metadata",
        "cameras",
        "images.",
        "frames.",
        "poses_bounds",
        "Calib",
        "scene.txt",
    )
    names = [path for path in folder.rglob("*") if path.is_file()]
    paths |= {p for p in names if p.name.startswith(described) or p.parent.name == "camera"}
    return {path for path in paths if path.is_file()}


def test_what_is_left_out_is_in_inspect_and_in_the_report(tmp_path):
    write_colmap_text(tmp_path / "raw" / "stage", GENERAL)
    path = tmp_path / "raw" / "stage" / "sparse" / "0" / "images.txt"
    path.write_text("\n".join(path.read_text().split("\n")[:-9]))
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "raw"), "--json"])
    rows = json.loads(result.stdout)["left_out"]
    expected = [
        {"reason": "not read by format colmap", "count": 1, "example": "stage/sparse/0/points3D.txt"},
        {"reason": "picture that no scene uses", "count": 4, "example": "stage/images/cam3/000000.png"},
    ]
    assert rows == expected
    text = CliRunner().invoke(app, ["inspect", str(tmp_path / "raw")]).stdout
    assert "left out: 4 x picture that no scene uses, such as stage/images/cam3/000000.png" in text
    found = read_folder(SourceFolder(tmp_path / "raw", "colmap"))
    report = extract_frames(
        found.scenes,
        tmp_path / "f",
        tmp_path / "t",
        tmp_path / "s",
        tmp_path / "r",
        frame_settings(size=16),
        left_out={"raw": found.left_out},
    )
    assert report["left_out"] == [{"source": "raw", **row} for row in expected]
    assert json.loads((tmp_path / "r").read_text()) == report


def test_links_in_circles_and_names_that_are_no_text_are_counted(tmp_path):
    write_dynerf(tmp_path / "kick", CENTRAL)
    (tmp_path / "kick" / "again").symlink_to("..")
    (tmp_path / "kick" / "itself").symlink_to("itself")
    (tmp_path / "kick" / os.fsdecode(b"\xff.dat")).write_bytes(b"")
    (row,) = read_folder(SourceFolder(tmp_path / "kick", "dynerf")).left_out
    assert row.count == 2
    row.example.encode()


# --- one bad file among many


def extract(folder, format_name, **options):
    """(rows, report) of a source."""
    out = folder / "out"
    options = {"size": 16, "max_bad_fraction": 0.5} | options
    scenes = read_source(SourceFolder(folder / "raw", format_name))
    extract_frames(scenes, out / "f", out / "t", out / "s", out / "r.json", frame_settings(**options))
    return read_table(out / "t", FRAMES).to_pylist(), json.loads((out / "r.json").read_text())


@pytest.fixture
def locked(monkeypatch):
    """Make folders of this name impossible to list, even for root."""

    def refusing(function):
        def listing(path="."):
            if str(path).endswith("locked"):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return function(path)

        return listing

    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))


def test_folders_that_cannot_be_listed_or_named_among_good_scenes(tmp_path, locked):
    raw, latin = tmp_path / "raw", os.fsdecode(b"k\xefck")
    for name in (latin, "good"):
        write_dynerf(raw / name, CENTRAL)
    for name in (os.fsdecode(b"n\xf6tes"), "locked"):
        (raw / name).mkdir()
    (raw / os.fsdecode(b"n\xf6tes") / "notes.md").write_text("no scene")
    bad = {scene.name: scene.bad[0] for scene in read_source(SourceFolder(raw, "dynerf")) if not scene.videos}
    num_films = len(list((raw / latin).glob("*.mp4")))
    assert {name: (piece.reason, piece.num_files) for name, piece in bad.items()} == {
        "k\\udcefck": ("expected a file name in UTF-8", num_films),
        "locked": ("expected to be readable: Permission denied", 1),
    }
    rows, report = extract(tmp_path, "dynerf", max_bad_fraction=0.9)
    assert {row["scene"] for row in rows} == {"good"}
    assert [row["path"] for row in report["bad"]] == [f"{raw}/k\\udcefck", f"{raw}/locked"]
    with pytest.raises(InputError, match="files are bad") as caught:
        extract(tmp_path, "dynerf", max_bad_fraction=0)
    str(caught.value).encode()
    facts, _ = inspect_folder(SourceFolder(raw, "dynerf"))
    assert [scene.warnings for scene in facts.scenes if scene.name != "good"] == [
        ["k\\udcefck: skipped: expected a file name in UTF-8"],
        ["locked: skipped: expected to be readable: Permission denied"],
    ]


@pytest.mark.parametrize("form", FORMATS[:-1], ids=IDS[:-1])
def test_a_scene_without_its_description_among_good_ones(tmp_path, form):
    """All of its videos or pictures count as bad."""
    for name in ("bad", "good", "well"):
        form.write(tmp_path / "raw" / name, GENERAL if form.general else CENTRAL)
    (tmp_path / "raw" / "notes").mkdir()
    (tmp_path / "raw" / "notes" / "notes.md").write_text("no scene")
    descriptions = ("transforms*.json", "poses_bounds.npy", "calibration/*", "dataset.json", "sparse/0/*")
    for path in [path for pattern in descriptions for path in (tmp_path / "raw" / "bad").glob(pattern)]:
        path.unlink()
    bad, good, well = read_source(SourceFolder(tmp_path / "raw", form.name))
    (piece,) = bad.bad
    assert (bad.name, bad.videos, piece.path) == ("bad", (), tmp_path / "raw" / "bad")
    files = [path for path in (tmp_path / "raw" / "bad").rglob("*") if path.suffix in (".mp4", ".png")]
    assert piece.num_files == len(files) and "expected" in piece.reason
    rows, report = extract(tmp_path, form.name)
    assert {row["scene"] for row in rows} == {"good", "well"} == {good.name, well.name}
    assert [(row["scene"], row["camera"]) for row in report["bad"]] == [("bad", None)]
    with pytest.raises(InputError, match=rf"raw/bad: .* \({len(files)} of {3 * len(files)} files are bad"):
        extract(tmp_path, form.name, max_bad_fraction=0.3)
    facts, _ = inspect_folder(SourceFolder(tmp_path / "raw", form.name))
    assert facts.scenes[0].cameras == [] and facts.scenes[0].warnings[0] == f"bad: skipped: {piece.reason}"


@pytest.mark.parametrize("form", FORMATS, ids=IDS)
def test_where_nothing_is_left_it_is_one_line(tmp_path, form):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    save(tmp_path / "one" / "a.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(InputError, match="expected") as caught:
        read_source(SourceFolder(tmp_path, form.name))
    assert "\n" not in str(caught.value)


def test_realestate10k_clips_whose_film_or_frame_is_gone(tmp_path):
    for name in "abcd":
        write_realestate10k(tmp_path / "raw" / "scene", GENERAL, name)
    (tmp_path / "raw" / "b.mp4").unlink()
    (tmp_path / "raw" / "c.mp4").unlink()
    (tmp_path / "raw" / "d.txt").write_text("https://x\n1 2 3\n")
    for index in (0, 1, 3):
        save(tmp_path / "raw" / "c" / f"{index * 125000}.jpg", GENERAL.picture(index, index))
    rows, report = extract(tmp_path, "realestate10k")
    assert [(row["scene"], row["frame_index"]) for row in rows] == [("a", n) for n in range(4)] + [
        ("c", n) for n in (0, 1, 3)
    ]
    reasons = {bad["scene"]: bad["reason"] for bad in report["bad"]}
    assert reasons.keys() == {"b", "c", "d"} and reasons["c"] == "expected a picture, there is no such file"
    assert reasons["b"].startswith("expected its film") and reasons["d"].startswith("line 2: expected 19 numbers")
    assert left_out_of(tmp_path / "raw", "realestate10k") == {"film that no scene uses": 1}  # of d


@pytest.mark.parametrize("write", [write_nerfstudio, write_colmap_text])
def test_pictures_that_are_gone_or_broken(tmp_path, write):
    """Also if the description does not give the size."""
    write(tmp_path / "raw" / "room", GENERAL)
    pictures = sorted((tmp_path / "raw" / "room" / "images").rglob("*.png"))
    pictures[0].unlink()
    pictures[1].write_bytes(b"")
    path = tmp_path / "raw" / "room" / "transforms.json"
    if path.is_file():
        write_json(path, json.loads(path.read_text()) | {"w": None, "h": None})
    rows, report = extract(tmp_path, write.__name__.split("_")[1])
    assert len(rows) == len(pictures) - 2
    assert Counter(bad["path"] for bad in report["bad"]) == Counter(map(str, pictures[:2]))


def write_calibration(folder, *changes):
    """A Qualisys scene with videos cam01 to cam03 and cameras cam01 to cam06; each change applies to one camera."""
    write_qualisys(folder, CENTRAL)
    (folder / "videos" / "cam04.mp4").unlink()
    path = folder / "calibration" / "Calib.qca.txt"
    xml = qualisys_xml(ring_cameras(6), CENTRAL.size, 95.0)
    for number, old, new in changes:
        start = xml.index(f'<camera serial="cam{number:02d}"')
        end = xml.index("</camera>", start)
        assert old in xml[start:end]
        xml = xml[:start] + xml[start:end].replace(old, new, 1) + xml[end:]
    path.write_text(xml)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<camera ", '<camera active="0" calibrated="false" '),
        ("<fov_video", "<fov_marker"),  # a marker camera has no video
        ('focalLengthU="', 'focalLengthU="-'),
        ('r11="', 'r11="nan'),
        ('skew="0"', 'skew="2"'),
    ],
)
def test_cameras_of_a_calibration_that_film_nothing_may_be_anything(tmp_path, old, new):
    write_calibration(tmp_path / "raw" / "gym", (5, old, new))
    (scene,) = read_source(SourceFolder(tmp_path / "raw", "qualisys"))
    assert [film.camera_id for film in scene.videos] == ["cam01", "cam02", "cam03"] and not scene.bad
    assert left_out_of(tmp_path / "raw", "qualisys") == {"calibrated camera without a film": 3}
    # The same fault in a camera with a video makes the video bad.
    write_calibration(tmp_path / "raw" / "two", (2, old, new))
    rows, report = extract(tmp_path, "qualisys")
    assert {(row["scene"], row["camera"]) for row in rows} == {
        ("gym", "cam01"), ("gym", "cam02"), ("gym", "cam03"), ("two", "cam01"), ("two", "cam03")
    }  # fmt: skip
    assert [(bad["scene"], bad["path"][-9:]) for bad in report["bad"]] == [("two", "cam02.mp4")]


def test_a_film_that_the_calibration_does_not_know(tmp_path):
    write_calibration(tmp_path / "gym", (3, 'serial="cam03"', 'serial="cam33"'))
    (scene,) = read_source(SourceFolder(tmp_path, "qualisys"))
    assert [film.camera_id for film in scene.videos] == ["cam01", "cam02"]
    assert "camera serial: expected cam03, as cam03.mp4 is named" in scene.bad[0].reason


def test_a_row_of_a_pose_file_that_is_no_camera(tmp_path):
    write_dynerf(tmp_path / "raw" / "kick", CENTRAL)
    rows = poses_bounds(CENTRAL.c2w, CENTRAL.size, 95.0)
    rows[2, 4] = np.nan
    np.save(tmp_path / "raw" / "kick" / "poses_bounds.npy", rows)
    found, report = extract(tmp_path, "dynerf")
    assert {row["camera"] for row in found} == {"cam00", "cam01", "cam03"}
    assert [bad["path"][-9:] for bad in report["bad"]] == ["cam02.mp4"] and "row 2" in report["bad"][0]["reason"]


def test_ucf101_classes_in_another_case_and_clips_that_are_not_there(tmp_path):
    write_ucf101(tmp_path)
    lists = tmp_path / "ucfTrainTestlist"
    (lists / "trainlist01.txt").write_text("YoYo/v_yoYo_g01_c01.avi 1\nYoYo/v_YoYo_g09_c01.avi 1\n")
    (lists / "testlist01.txt").write_text("YOYO\\v_YOYO_g02_c01.avi\n")
    (tmp_path / "YoYo" / "holiday.avi").write_bytes(b"")
    found = read_folder(SourceFolder(tmp_path, "ucf101"))
    assert [(scene.name, scene.split) for scene in found.scenes] == [
        ("YoYo_g01_c01", "train"),
        ("YoYo_g02_c01", "test"),
    ]
    assert [(row.reason, row.count, row.example) for row in found.left_out] == [
        ("film of a list that is not there", 1, "v_yoyo_g09_c01"),
        ("film that no scene uses", 1, "YoYo/holiday.avi"),
    ]


def test_films_beside_a_folder_that_cannot_be_read(tmp_path):
    write_film(tmp_path / "raw" / "alone.mp4", gray_film([1, 2]))
    write_film(tmp_path / "raw" / "duo" / "a.mp4", gray_film([1, 2]))
    (tmp_path / "raw" / "duo" / "sync.csv").write_text("camera,offset_s\nb,0.5\n")
    write_film(tmp_path / "raw" / "spoilt.mp4", gray_film([1, 2]))
    (tmp_path / "raw" / "spoilt.txt").write_bytes("école".encode("latin-1"))
    save(tmp_path / "raw" / "photos" / "a.png", np.zeros((8, 8), np.uint8))
    rows, report = extract(tmp_path, "video", max_bad_fraction=0.7)
    assert {row["scene"] for row in rows} == {"alone"}
    spoilt, duo = (bad["reason"] for bad in report["bad"])
    assert duo.startswith("sync.csv: line 2: camera:") and spoilt.startswith(
        f"{tmp_path}/raw/spoilt.txt: expected a cap"
    )
    assert left_out_of(tmp_path / "raw", "video") == {"picture that no scene uses": 1}
