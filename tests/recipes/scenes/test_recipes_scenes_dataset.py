"""Tiny whole scenes, from the real body and clips."""

import av
import numpy as np
import pytest
from dataset import scene_name, write_scene
from render import PARAMS, render_set
from settings import read_settings

from fourdistill.sources.readers import SourceFolder, read_source

pytestmark = pytest.mark.network
TINY = {"scenes": 2, "cameras": 2, "frames": 3, "resolution": 64, "motions": ["kick", "jump"], "seed": 4}


def settings(**overrides):
    return read_settings(PARAMS, TINY | overrides)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", params=["ring", "jittered"])
def scenes(request, wheels, tmp_path_factory):
    out = tmp_path_factory.mktemp("sets") / request.param
    render_set(settings(layout=request.param), out, wheels, jobs=2)
    return out


def decode(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
    times = [frame.time for frame in frames]
    return np.stack([frame.to_ndarray(format="rgb24") for frame in frames]), times


def test_the_project_reads_what_the_generator_writes(scenes, wheels):
    read = read_source(SourceFolder(scenes, "dynerf"))
    assert sorted(scene.name.split("_")[1] for scene in read) == ["jump", "kick"]
    for scene in read:
        assert [video.camera_id for video in scene.videos] == ["cam00", "cam01"]
        assert scene.caption is not None
        assert scene.caption.endswith({"kick": "kicks with one leg", "jump": "jumps up"}[scene.name.split("_")[1]])


def test_videos_keep_the_true_time_and_show_somebody_large_and_whole(scenes):
    seconds = {"kick": 1.5333318689999995, "jump": 1.7665960741999993}  # of the whole clip
    for scene in sorted(path for path in scenes.iterdir() if path.is_dir()):
        for video in sorted(scene.glob("cam*.mp4")):
            frames, times = decode(video)
            assert frames.shape == (3, 64, 64, 3)
            duration = seconds[scene.name.split("_")[1]]
            np.testing.assert_allclose(times, np.arange(3) * duration / 3, atol=2e-3)
            assert np.abs(frames[0].astype(int) - frames[2]).max() > 60  # it moves
            for frame in frames:
                # Floor and wall are pale and shadows grey: only the subject is this colourful or dark.
                subject = (np.ptp(frame.astype(int), axis=2) > 40) | (frame.max(2) < 110)
                rows = np.flatnonzero(subject.any(1))
                assert 0.4 * 64 < np.ptp(rows) < 0.95 * 64
                assert not subject[[0, -1]].any()
                assert not subject[:, [0, -1]].any()


def test_frames_drawn_from_more_instants_keep_their_times(wheels, tmp_path):
    render_set(settings(instants=12, frames=5, scenes=4, resolution=32), tmp_path, wheels, jobs=2)
    drawn = set()
    for scene in sorted(path for path in tmp_path.iterdir() if path.is_dir()):
        seconds = {"kick": 1.5333318689999995, "jump": 1.7665960741999993}[scene.name.split("_")[1]]
        (_, times), (_, others) = (decode(scene / f"cam0{number}.mp4") for number in (0, 1))
        ticks = np.array(times) * 12 / seconds
        np.testing.assert_allclose(ticks, np.round(ticks), atol=0.02)
        assert times == others
        assert (ticks[0], round(ticks[-1])) == (0, 11)  # so that a fraction of the scene is the same in every scene
        assert len(set(np.round(ticks))) == 5
        drawn.add(tuple(np.round(ticks)))
    assert len(drawn) > 1


def test_every_run_gives_the_same_bytes(scenes, wheels, tmp_path):
    render_set(settings(layout=scenes.name), tmp_path, wheels, jobs=1)
    assert contents(tmp_path) == contents(scenes)
    assert not list(tmp_path.glob(".*"))


def test_a_finished_scene_is_kept_and_an_unfinished_one_is_made_whole(wheels, tmp_path):
    one = settings(cameras=1, frames=1, resolution=32)
    name = scene_name(0, "walk")
    (tmp_path / f".{name}.partial").mkdir()
    (tmp_path / f".{name}.partial" / "cam07.mp4").write_bytes(b"left by a killed run")
    write_scene(tmp_path, 0, "walk", one, wheels)
    assert sorted(contents(tmp_path)) == [f"{name}/cam00.mp4", f"{name}/caption.txt", f"{name}/poses_bounds.npy"]
    (tmp_path / name / "caption.txt").write_text("kept")
    write_scene(tmp_path, 0, "walk", one, wheels)
    assert (tmp_path / name / "caption.txt").read_text() == "kept"
