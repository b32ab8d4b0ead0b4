import numpy as np
import pytest
from tiny_scenes import SIZE, gray_film, poses_bounds, qualisys_xml, ring_cameras, write_film

from fourdistill.errors import InputError
from fourdistill.geometry.camera import intrinsics
from fourdistill.scene import Video
from fourdistill.sources.formats import FORMATS
from fourdistill.sources.readers import SourceFolder, read_source, read_sources
from fourdistill.sources.readers.listing import list_videos


@pytest.fixture
def dynerf(tmp_path):
    """Two DyNeRF scenes with invalid videos: readers do not open them."""
    for name in ("b_run", "a_walk"):
        scene = tmp_path / name
        scene.mkdir()
        for camera in (0, 1, 4):  # gaps are allowed
            (scene / f"cam{camera:02d}.mp4").write_bytes(b"never opened")
        np.save(scene / "poses_bounds.npy", poses_bounds(ring_cameras(3), (64, 48), 50.0))
    (tmp_path / "a_walk" / "caption.txt").write_text("a man\nwalks\n")
    (tmp_path / "README.md").write_text("not a scene")
    return tmp_path


def test_dynerf(dynerf):
    walk, run = read_source(SourceFolder(dynerf, "dynerf"))
    assert (walk.name, run.name) == ("a_walk", "b_run")
    assert walk.caption == "a man walks"
    assert run.caption is None
    assert [video.camera_id for video in walk.videos] == ["cam00", "cam01", "cam04"]
    for video, pose in zip(walk.videos, ring_cameras(3), strict=True):
        assert isinstance(video, Video) and video.camera is not None
        np.testing.assert_allclose(video.camera.c2w, pose, atol=1e-12)
        np.testing.assert_allclose(video.camera.K, intrinsics(50, 50, 32, 24))
        assert video.camera.size == (64, 48)


def test_a_dynerf_scene_may_be_the_source_itself(dynerf):
    (scene,) = read_source(SourceFolder(dynerf / "a_walk", "dynerf"))
    assert scene.name == "a_walk"


def test_sources_are_sorted_by_scene(dynerf, tmp_path):
    write_film(tmp_path / "films" / "alone.mp4", gray_film([1]))
    scenes = read_sources(
        [
            SourceFolder(dynerf / "b_run", "dynerf"),
            SourceFolder(dynerf / "a_walk", "dynerf"),
            SourceFolder(tmp_path / "films", "video"),
        ]
    )
    assert [scene.name for scene in scenes] == ["a_walk", "alone", "b_run"]


def test_videos_have_captions_beside_them_and_no_cameras(tmp_path):
    for name in ("one.mp4", "two.MKV"):
        (tmp_path / name).write_bytes(b"never opened")
    (tmp_path / "one.txt").write_text("bikes in traffic")
    (tmp_path / ".hidden.mp4").write_bytes(b"")
    one, two = read_source(SourceFolder(tmp_path, "video"))
    assert (one.name, one.caption, two.name, two.caption) == ("one", "bikes in traffic", "two", None)
    assert isinstance(one.videos[0], Video) and one.videos[0].camera is None


def write_qualisys(folder, xml, names=("cam01", "cam02", "cam03")):
    (folder / "videos").mkdir(parents=True)
    (folder / "calibration").mkdir()
    (folder / "calibration" / "Calib.qca.txt").write_text(xml)
    for name in names:
        (folder / "videos" / f"{name}.mp4").write_bytes(b"never opened")
    return folder


def test_qualisys(tmp_path):
    cameras = ring_cameras(3)
    write_qualisys(tmp_path / "gym", qualisys_xml(cameras, (1088, 1920), 1600, (-0.05, 0.1, 0.001, 0.002)))
    (scene,) = read_source(SourceFolder(tmp_path, "qualisys"))
    assert scene.name == "gym"
    for video, pose in zip(scene.videos, cameras, strict=True):
        assert isinstance(video, Video) and video.camera is not None
        np.testing.assert_allclose(video.camera.c2w, pose, atol=1e-9)
        np.testing.assert_allclose(video.camera.K, intrinsics(1600, 1600, 544, 960))
        assert video.camera.size == (1088, 1920)
        assert video.camera.distortion == (-0.05, 0.1, 0.001, 0.002)


def test_qualisys_without_distortion(tmp_path):
    write_qualisys(tmp_path / "gym", qualisys_xml(ring_cameras(3), (64, 48), 50))
    (scene,) = read_source(SourceFolder(tmp_path / "gym", "qualisys"))
    (video, *_) = scene.videos
    assert isinstance(video, Video) and video.camera is not None and video.camera.distortion is None


def refuse(folder, format_name, *parts):
    """Reading must fail with one line that contains all parts."""
    with pytest.raises(InputError) as caught:
        read_sources([SourceFolder(folder, format_name)])
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_unknown_format(tmp_path):
    refuse(tmp_path, "llff", "format", "'llff'", *FORMATS)


@pytest.mark.parametrize("format_name", FORMATS)
def test_missing_or_empty_folder(tmp_path, format_name):
    refuse(tmp_path / "gone", format_name, str(tmp_path / "gone"), "expected")
    refuse(tmp_path, format_name, str(tmp_path), "empty folder")


@pytest.mark.parametrize("format_name", FORMATS)
def test_folder_without_videos(tmp_path, format_name):
    (tmp_path / "notes.txt").write_text("no video here")
    refuse(tmp_path, format_name, str(tmp_path), "expected")


def test_wrong_number_of_cameras(dynerf):
    np.save(dynerf / "a_walk" / "poses_bounds.npy", poses_bounds(ring_cameras(4)))
    refuse(dynerf / "a_walk", "dynerf", "a_walk/poses_bounds.npy", "expected 3 rows", "found 4")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (np.zeros((3, 16)), "(N, 17)"),
        (np.zeros((3, 17), int), "(N, 17)"),
        (np.zeros((3, 17)), "rotation"),
        (np.where(np.arange(17) == 14, np.inf, poses_bounds(ring_cameras(3))), "focal length"),
        (np.where(np.arange(17) == 0, np.nan, poses_bounds(ring_cameras(3))), "rotation"),
    ],
)
def test_pose_files_with_nonsense(dynerf, rows, expected):
    np.save(dynerf / "a_walk" / "poses_bounds.npy", rows)
    refuse(dynerf / "a_walk", "dynerf", "a_walk/poses_bounds.npy", expected)


def test_pose_files_are_never_unpickled(dynerf):
    np.save(dynerf / "a_walk" / "poses_bounds.npy", np.array([print, {}], dtype=object), allow_pickle=True)
    refuse(dynerf / "a_walk", "dynerf", "a_walk/poses_bounds.npy", "expected an .npy array of numbers")


def test_pose_file_missing_or_garbled(dynerf):
    (dynerf / "a_walk" / "poses_bounds.npy").write_bytes(b"\x93NUMPY garbage")
    refuse(dynerf / "a_walk", "dynerf", "a_walk/poses_bounds.npy", "expected an .npy array")
    for scene in ("a_walk", "b_run"):
        (dynerf / scene / "poses_bounds.npy").unlink()
    refuse(dynerf, "dynerf", "a_walk/poses_bounds.npy", "found none")


def test_two_scenes_of_one_name(dynerf, tmp_path_factory):
    films = tmp_path_factory.mktemp("films")
    (films / "a_walk.mp4").write_bytes(b"never opened")
    with pytest.raises(InputError, match=r"films.*a_walk\.mp4: scene 'a_walk': expected a name of its own"):
        read_sources([SourceFolder(dynerf, "dynerf"), SourceFolder(films, "video")])
    apart = read_sources([SourceFolder(dynerf, "dynerf"), SourceFolder(films, "video", "mine_")])
    assert {"a_walk", "mine_a_walk"} <= {scene.name for scene in apart}


def test_two_videos_of_one_stem(tmp_path):
    for name in ("one.mp4", "one.mkv"):
        (tmp_path / name).write_bytes(b"never opened")
    refuse(tmp_path, "video", "one.mp4", "one.mkv lies beside it")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (
            lambda xml: xml.replace('serial="cam0', 'serial="cam9'),
            "camera serial: expected cam01, as cam01.mp4 is named",
        ),
        (lambda xml: xml.replace('serial="cam03"', 'serial="cam02"'), "unique"),
        (lambda xml: xml[:-10], "XML"),
        (lambda xml: '<!DOCTYPE x [<!ENTITY a "b">]>' + xml, "document type"),
        (lambda xml: xml.replace('skew="0"', 'skew="3"'), "skew"),
        (lambda xml: xml.replace('radialDistortion3="0"', 'radialDistortion3="0.1"'), "radialDistortion3"),
        (lambda xml: xml.replace('r11="', 'r11="9'), "rotation"),
        (lambda xml: xml.replace('x="', 'x="far'), "expected numbers"),
        (lambda xml: xml.replace("fov_video", "fov_other"), "fov_video"),
        (lambda xml: "<calibration/>", "no camera"),
    ],
)
def test_calibrations_with_nonsense(tmp_path, damage, expected):
    write_qualisys(tmp_path / "gym", damage(qualisys_xml(ring_cameras(3), (64, 48), 50)))
    refuse(tmp_path, "qualisys", "Calib.qca.txt", expected)


def test_a_calibration_is_needed(tmp_path):
    (tmp_path / "gym" / "videos").mkdir(parents=True)
    (tmp_path / "gym" / "videos" / "cam01.mp4").write_bytes(b"")
    refuse(tmp_path, "qualisys", "gym", "*.qca.txt")


def test_offsets_beside_films_that_are_scenes_of_their_own_are_an_error(tmp_path):
    """Otherwise four videos one folder level too high would silently become four scenes with separate clocks."""
    write_film(tmp_path / "phone0.mp4", np.zeros((2, SIZE, SIZE, 3), np.uint8))
    (tmp_path / "sync.csv").write_text("camera,offset_s\nphone0,0.5\n")
    with pytest.raises(InputError, match=r"sync\.csv: expected it beside the films of one scene"):
        read_source(SourceFolder(tmp_path, "video"))


def test_small_copies_are_films_only_where_nothing_else_is(tmp_path):
    for name in ("GX010001.MP4", "GL010001.LRV", "preview.gif"):
        (tmp_path / name).touch()
    assert [path.name for path in list_videos(tmp_path)] == ["GX010001.MP4"]
    (tmp_path / "GX010001.MP4").unlink()
    assert [path.name for path in list_videos(tmp_path)] == ["GL010001.LRV", "preview.gif"]
