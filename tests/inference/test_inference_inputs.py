import numpy as np
import pytest

from fourdistill.errors import InputError
from fourdistill.geometry.displacement import Displacement
from fourdistill.inference.inputs import broadcast, with_displacements


def test_broadcast():
    pose = np.eye(4)[:3]
    lists = broadcast(time=np.array([0.1, 0.2]), prompt="a man", relative_pose=pose, azimuth=(None,))
    assert lists["time"] == [0.1, 0.2]
    assert lists["prompt"] == ["a man"] * 2
    assert lists["azimuth"] == [None] * 2
    assert [p.shape for p in lists["relative_pose"]] == [(3, 4)] * 2
    assert len(broadcast(relative_pose=[pose, None, pose])["relative_pose"]) == 3
    assert len(broadcast(relative_pose=pose.tolist())["relative_pose"]) == 1
    assert len(broadcast(relative_pose=np.stack([pose, pose]))["relative_pose"]) == 2
    with pytest.raises(InputError, match="time: expected 1 or 3 values, got 2"):
        broadcast(time=[0.1, 0.2], prompt=["a", "b", "c"])


def test_displacements_are_read_of_every_image_and_row():
    rows = broadcast(
        image_embeds=[0, 1],
        time=[0.5, None],
        seconds=[None, 1.0],
        duration_s=2.0,
        azimuth=90,
        displacement=None,
        seed=3,
    )
    rows |= broadcast(**{"others[0].image_embeds": [0, 1], "others[0].time": -0.25})
    read = with_displacements(rows, None)
    assert set(read) == {"image_embeds", "displacement", "seed", "others[0].image_embeds", "others[0].displacement"}
    assert read["displacement"] == [Displacement.from_user(0.5, 90), Displacement.from_user(0.5, 90)]
    assert read["others[0].displacement"] == [Displacement.from_user(-0.25)] * 2
    (own,) = with_displacements(broadcast(image_embeds=[0], time=None, seconds=1.0, duration_s=None), 4.0)[
        "displacement"
    ]
    assert own == Displacement.from_user(0.25)  # relative to the adapter's own max_gap_s


def test_a_displacement_stands_for_what_says_it():
    two = Displacement.merge([Displacement.from_user(0.5), Displacement.from_user(azimuth=90)], np.stack)
    rows = broadcast(image_embeds=0, time=None, duration_s=None, displacement=two)
    assert with_displacements(rows, None)["displacement"] == list(two)
    assert broadcast(displacement=two[0])["displacement"] == [two[0]]
    with pytest.raises(InputError, match=r"^time: expected no displacement beside it"):
        with_displacements(broadcast(image_embeds=0, time=0.5, displacement=two), None)
    with pytest.raises(InputError, match=r"^others\[0\]\.time: expected a share of the scene"):
        with_displacements({"others[0].image_embeds": [0], "others[0].time": [2.0], "time": [None]}, None)
