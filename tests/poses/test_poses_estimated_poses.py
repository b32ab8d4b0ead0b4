import json
import random
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import textured_room
from stage_settings import frame_settings, settings_of
from tiny_scenes import write_film
from touches import count_touches, kill

from fourdistill.errors import InputError
from fourdistill.evaluation.metrics.orbit_poses import pose_errors
from fourdistill.frames.extract import extract_frames
from fourdistill.geometry.scene_frame import fit_scene_frame
from fourdistill.poses.estimate import estimate_poses
from fourdistill.poses.still_camera import is_still
from fourdistill.poses.structure_from_motion import MIN_PICTURES
from fourdistill.poses.table import with_poses
from fourdistill.scene import Video
from fourdistill.sources.readers import SourceFolder, read_source, read_sources
from fourdistill.tables import FRAMES, POSES, read_table, to_matrices
from fourdistill.video.films import cameras_of_frames

NINE = settings_of("estimate_poses", size=320, max_pictures=9)

PATH = textured_room.orbit(9)


def tripod(pose, num_frames):
    """A video by a still camera of a ball that crosses the room."""
    background = np.asarray(textured_room.photograph(pose))
    rows, columns = np.mgrid[: background.shape[0], : background.shape[1]]
    frames = []
    for index in range(num_frames):
        ball = (rows - 120) ** 2 + (columns - 60 - 20 * index) ** 2 < 40**2
        frames.append(np.where(ball[..., None], np.array([200, 30, 30], np.uint8), background))
    return np.stack(frames)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """`walk`: one moving camera; `stand`: one on a tripod; `stage`: several on tripods. Read only."""
    folder = tmp_path_factory.mktemp("raw")
    write_film(folder / "walk.mp4", np.stack([np.asarray(textured_room.photograph(pose)) for pose in PATH]))
    write_film(folder / "stand.mp4", tripod(PATH[0], 6))
    for number, pose in enumerate(PATH[::2]):
        write_film(folder / "stage" / f"phone{number}.mp4", tripod(pose, 4))
    return folder


@pytest.fixture(scope="module")
def estimated(raw, tmp_path_factory):
    """(scenes with their poses, report, table) of `raw`."""
    folder = tmp_path_factory.mktemp("poses")
    scenes = read_source(SourceFolder(raw, "video", estimate_poses=True))
    estimate_poses(
        scenes,
        folder / "poses.parquet",
        folder / "poses.json",
        NINE,
        seed=0,
    )
    table = folder / "poses.parquet"
    return with_poses(scenes, table), json.loads((folder / "poses.json").read_text()), table


def video_of(scenes, name, camera="cam00"):
    (video,) = (v for scene in scenes if scene.name == name for v in scene.videos if v.camera_id == camera)
    assert isinstance(video, Video)
    return video


def test_still_cameras_are_told_from_moving_ones():
    from PIL import Image

    assert is_still([Image.fromarray(frame) for frame in tripod(PATH[0], 6)])
    assert not is_still([textured_room.photograph(pose) for pose in PATH])
    assert not is_still([Image.new("RGB", (320, 240), (90, 90, 90))] * 4)  # nothing to match


def test_a_moving_camera_is_followed(estimated):
    video = video_of(estimated[0], "walk")
    cameras = cameras_of_frames(video, np.arange(len(PATH)) / 8)
    c2w = np.stack([camera.c2w for camera in cameras if camera is not None])
    assert len(c2w) == len(PATH)
    errors = pose_errors(c2w, PATH)
    assert np.nanmax(errors.rotation_deg) < 0.1
    np.testing.assert_allclose(video.track[0][1].K, textured_room.K, atol=3)
    frame = fit_scene_frame(c2w)
    assert frame is not None and frame.scale == pytest.approx(1, rel=1e-6)


def test_a_single_tripod_is_not_sent_through_structure_from_motion(estimated):
    video = video_of(estimated[0], "stand")
    assert video.camera is None and not video.track
    (entry,) = (entry for entry in estimated[1] if entry["scene"] == "stand")
    assert entry["still"] and entry["registered"] == 0 and "moves" in entry["note"]


def test_several_tripods_are_posed_by_a_picture_each(estimated):
    c2w = []
    for number in range(5):
        camera = video_of(estimated[0], "stage", f"phone{number}").camera
        assert camera is not None
        c2w.append(camera.c2w)
    assert np.nanmax(pose_errors(np.stack(c2w), PATH[::2]).rotation_deg) < 0.5
    entries = [entry for entry in estimated[1] if entry["scene"] == "stage"]
    assert [(entry["still"], entry["pictures"], entry["registered"]) for entry in entries] == [(True, 1, 1)] * 5
    assert all(0 < entry["reprojection_error_px"] < 1 for entry in entries)


def test_the_frames_get_their_poses(raw, estimated, tmp_path):
    extract_frames(
        [scene for scene in estimated[0] if scene.name != "stand"],
        tmp_path / "frames", tmp_path / "table", tmp_path / "scenes", tmp_path / "report", frame_settings(size=64),
    )  # fmt: skip
    table = read_table(tmp_path / "table", FRAMES)
    c2w = to_matrices(table["c2w"], (4, 4))
    walk = np.array([scene == "walk" for scene in table["scene"].to_pylist()])
    assert np.isfinite(c2w).all()
    assert len(np.unique(c2w[walk], axis=0)) == len(PATH) and len(np.unique(c2w[~walk], axis=0)) == 5
    K = to_matrices(table["K"], (3, 3))[walk][0]
    np.testing.assert_allclose(K[0, 0], textured_room.K[0, 0] * 64 / 240, rtol=0.02)


def test_without_sources_to_estimate_the_table_is_empty(tmp_path):
    estimate_poses(
        read_sources([]),
        tmp_path / "poses.parquet",
        tmp_path / "poses.json",
        NINE,
        seed=0,
    )
    assert read_table(tmp_path / "poses.parquet", POSES).num_rows == 0
    assert json.loads((tmp_path / "poses.json").read_text()) == []


def test_frames_that_took_no_part_have_no_pose(raw, tmp_path):
    scenes = [s for s in read_source(SourceFolder(raw, "video", estimate_poses=True)) if s.name == "walk"]
    estimate_poses(
        scenes,
        tmp_path / "poses.parquet",
        tmp_path / "poses.json",
        replace(NINE, max_pictures=5),
        seed=0,
    )
    assert pq.read_table(tmp_path / "poses.parquet").num_rows == 5 >= MIN_PICTURES
    video = video_of(with_poses(scenes, tmp_path / "poses.parquet"), "walk")
    known = [camera is not None for camera in cameras_of_frames(video, np.arange(9) / 8)]
    assert known == [index % 2 == 0 for index in range(9)]


def test_formats_with_poses_are_not_estimated(tmp_path):
    from tiny_scenes import write_dynerf

    write_dynerf(tmp_path / "kick", 2, 2)
    with pytest.raises(InputError, match="poses: expected read for format 'dynerf'"):
        read_source(SourceFolder(tmp_path, "dynerf", estimate_poses=True))


def pose_the_stage(raw, folder):
    """Pose the scene `stage` of `raw`."""
    scenes = [scene for scene in read_source(SourceFolder(raw, "video", estimate_poses=True)) if scene.name == "stage"]
    estimate_poses(
        scenes,
        folder / "poses.parquet",
        folder / "poses.json",
        NINE,
        seed=0,
    )


def test_killed_at_three_moments_it_gives_the_same_when_run_again(raw, tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    names, touched = ("poses.parquet", "poses.json"), count_touches(straight, pose_the_stage, raw, straight)
    there = []
    for moment in sorted(random.Random(0).sample(range(1, touched), 3)):
        kill(killed, moment, pose_the_stage, raw, killed)
        written = [name for name in names if (killed / name).exists()]
        assert all((killed / name).read_bytes() == (straight / name).read_bytes() for name in written)
        there.append(len(written))
    assert there[0] < len(names)  # not everything was there before it was run again
    pose_the_stage(raw, killed)
    assert {path.name: path.read_bytes() for path in killed.iterdir()} == {
        name: (straight / name).read_bytes() for name in names
    }
