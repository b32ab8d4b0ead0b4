import json

import numpy as np
import pytest

from fourdistill.commands.generate import lay_out
from fourdistill.commands.relative_poses import read_relative_poses
from fourdistill.errors import InputError

NOTHING = dict.fromkeys(("time", "seconds", "azimuth", "elevation", "radius"))
STILL = np.eye(3, 4).tolist()


@pytest.mark.parametrize(
    ("text", "num"),
    [
        (json.dumps(STILL), 1),
        (json.dumps(np.eye(4).tolist()), 1),
        ("\n" + json.dumps([STILL, np.eye(4).tolist()], indent=2), 2),
        ("1 0 0 0\n0 1 0 0\n0 0 1 0", 1),
        ("\n\n# saved by numpy\n1,0,0,0\n0,1,0,0\n0,0,1,0 # z\n0,0,0,1\n\n \n1 0 0 0\r\n0 1 0 0\n0 0 1e0 0\n\n", 2),
    ],
)
def test_json_and_text(tmp_path, text, num):
    (tmp_path / "poses").write_text(text)
    poses = read_relative_poses(tmp_path / "poses")
    assert len(poses) == num and all(np.array_equal(np.array(pose)[:3], STILL) for pose in poses)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a 3x4 or 4x4 matrix, or a list of them, found none"),
        ("# nothing\n", "expected a 3x4 or 4x4 matrix, or a list of them, found none"),
        ("[]", "expected a 3x4 or 4x4 matrix"),
        ("[[[]]]", "0.0: expected a 3x4 or 4x4 matrix"),
        ("{}", "expected a 3x4 or 4x4 matrix"),
        ("[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1]]", "2: expected a 3x4 or 4x4 matrix"),
        ('[[[1, 0, 0, 0], [0, 1, "x", 0], [0, 0, 1, 0]]]', "0.1.2: expected a 3x4 or 4x4 matrix"),
        ("[[1, 0, 0, 0]", "expected a 3x4 or 4x4 matrix"),
        ("1 0 0 0\n0 1 0\n0 0 1 0", "line 2: expected 4 numbers, a row of a matrix, found '0 1 0'"),
        ("1 0 0 0\n0 1 0 x\n0 0 1 0", "line 2: expected 4 numbers, a row of a matrix, found '0 1 0 x'"),
        ("1 0 0 0\n0 1 0 0", "matrix 1: relative_pose: expected a rigid 3x4 or 4x4"),
        ("1 0 0 0\n0 1 0 0\n0 0 1 0\n\n2 0 0 0\n0 1 0 0\n0 0 1 0", "matrix 2: relative_pose: expected a rigid"),
        ("1 0 0 nan\n0 1 0 0\n0 0 1 0", "matrix 1: relative_pose: expected a rigid"),
        (json.dumps([STILL, (-np.eye(3, 4)).tolist()]), "matrix 2: relative_pose: expected a rigid"),
    ],
)
def test_what_is_no_matrix_is_one_line(tmp_path, text, message):
    (tmp_path / "poses").write_text(text)
    with pytest.raises(InputError) as caught:
        read_relative_poses(tmp_path / "poses")
    assert str(caught.value).startswith(f"{tmp_path / 'poses'}: {message}") and "\n" not in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(InputError, match=r"gone\.json: expected a 3x4 or 4x4 matrix"):
        read_relative_poses(tmp_path / "gone.json")


def test_poses_are_cameras_as_others_are():
    cells, num_columns = lay_out(NOTHING | {"time": [0.0, 0.5]}, None, [STILL, STILL, STILL], pairwise=False)
    assert num_columns == 2 and len(cells["relative_pose"]) == 6 == len(cells["time"])
    with pytest.raises(InputError, match="--relative-pose: expected no --radius beside it"):
        lay_out(NOTHING | {"radius": [1.0]}, None, [STILL], pairwise=False)
    with pytest.raises(InputError, match="--pairwise: expected as many times as cameras, got 2 and 3"):
        lay_out(NOTHING | {"time": [0.0, 0.5]}, None, [STILL, STILL, STILL], pairwise=True)
