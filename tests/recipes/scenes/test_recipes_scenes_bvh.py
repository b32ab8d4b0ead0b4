import numpy as np
import pytest
from bvh import AXES, axis_rotation, read_bvh
from hypothesis import given
from hypothesis import strategies as st

from fourdistill.errors import InputError

# A rod of length 2 on the root, with a rod of length 1 on its tip; the root moves, the elbow turns about x, then y.
TINY = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Elbow
  {
    OFFSET 0 2 0
    CHANNELS 2 Yrotation Xrotation
    End Site
    {
      OFFSET 0 1 0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.04
10 20 30 0 0 0 0 0
10 20 30 90 0 0 90 90
"""


def write(folder, text):
    path = folder / "tiny.bvh"
    path.write_text(text)
    return path


def test_the_hierarchy_and_the_frames(tmp_path):
    tiny = read_bvh(write(tmp_path, TINY))
    assert (tiny.joints, tiny.parents, tiny.frame_time) == (("Hips", "Elbow"), (-1, 0), 0.04)
    np.testing.assert_array_equal(tiny.ends, [[np.nan] * 3, [0, 1, 0]])
    positions, rotations = tiny.world()
    np.testing.assert_allclose(positions[0], [[10, 20, 30], [10, 22, 30]])
    # 90 degrees about z turn the first rod to -x. The elbow turns its own y to z (about x), then to x (about y), which
    # the root has turned to y.
    np.testing.assert_allclose(positions[1], [[10, 20, 30], [8, 20, 30]], atol=1e-12)
    tip = positions[1, 1] + rotations[1, 1] @ tiny.ends[1]
    np.testing.assert_allclose(tip, [8, 21, 30], atol=1e-12)


def test_position_channels_take_the_place_of_an_offset(tmp_path):
    text = TINY.replace("2 Yrotation Xrotation", "2 Yposition Xrotation").replace("90 90\n", "5 90\n")
    np.testing.assert_array_equal(read_bvh(write(tmp_path, text)).translations[:, 1], [[0, 0, 0], [0, 5, 0]])


def test_a_frame_more_than_the_head_counts_is_not_read(tmp_path):
    more = read_bvh(write(tmp_path, TINY + "0 0 0 0 0 0 0 0\n\n"))
    np.testing.assert_array_equal(more.translations, read_bvh(write(tmp_path, TINY)).translations)


ANGLE = st.floats(-720, 720)


@given(st.permutations(AXES), st.lists(st.tuples(ANGLE, ANGLE, ANGLE), min_size=1, max_size=3))
def test_what_is_written_is_read_in_any_order_of_axes(tmp_path_factory, order, frames):
    """Angles written as text give the rotations of their definition."""
    channels = " ".join(f"{axis}rotation" for axis in order)
    rows = "\n".join("1 2 3 " + " ".join(map(repr, angles)) + " 0 0" for angles in frames)
    text = TINY.replace("Zrotation Xrotation Yrotation", channels).replace("Frames: 2", f"Frames: {len(frames)}")
    read = read_bvh(write(tmp_path_factory.mktemp("any"), text[: text.index("10 20")] + rows))
    for frame, angles in enumerate(frames):
        expected = np.eye(3)
        for axis, angle in zip(order, angles, strict=True):
            vector, radians = np.eye(3)[AXES.index(axis)], np.deg2rad(angle)
            across = np.cross(vector, np.eye(3)).T  # across @ x = vector × x: Rodrigues' formula
            expected = expected @ (np.eye(3) + np.sin(radians) * across + (1 - np.cos(radians)) * across @ across)
        np.testing.assert_allclose(read.rotations[frame, 0], expected, atol=1e-9)
        np.testing.assert_array_equal(read.translations[frame, 0], [1, 2, 3])


@pytest.mark.parametrize("axis", range(3))
def test_a_quarter_turn_takes_each_axis_to_the_one_after_the_next(axis):
    quarter = axis_rotation(axis, np.array([np.pi / 2]))[0]
    np.testing.assert_allclose(quarter @ np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3], atol=1e-15)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("HIERARCHY", "HIERARCHIE", "line 1: expected HIERARCHY, got 'HIERARCHIE'"),
        ("JOINT Elbow", "JOINT Hips", "line 6: expected a name that no other joint has, got 'Hips'"),
        ("OFFSET 0 2 0", "OFFSET 0 2", "line 9: expected Elbow's offset, got 'CHANNELS'"),
        ("2 Yrotation Xrotation", "2 Yrotation Wrotation", "line 9: expected each of Xposition, .* got 'Wrotation'"),
        ("2 Yrotation Xrotation", "2 Yrotation Yrotation", "line 9: .*at most once, got 'Yrotation'"),
        ("2 Yrotation Xrotation", "1.5 Yrotation", "line 9: expected the number of Elbow's channels, got 1.5"),
        ("End Site", "Site", "line 10: expected JOINT, End Site or }, got 'Site'"),
        ("Frames: 2", "Frames: 0", "expected at least one frame of a positive time, got 0 frames of 0.04 s"),
        ("Time: 0.04", "Time: -1", "expected at least one frame of a positive time, got 2 frames of -1.0 s"),
        ("Frames: 2", "Frames: 3", "expected Hips's Xposition of frame 2, got the end of the file"),
        ("90 0 0 90 90", "90 0 0 90", "expected Elbow's Xrotation of frame 1, got the end of the file"),
        ("90 0 0 90 90", "90 0 0 90 90 7", "expected 2 frames of 8 numbers, got 1 words more"),
        ("90 0 0 90 90", "90 0 nan 90 90", "line 20: expected Hips's Yrotation of frame 1, got 'nan'"),
    ],
)
def test_a_bad_file_is_one_line_that_names_the_place(tmp_path, old, new, message):
    path = write(tmp_path, TINY.replace(old, new))
    with pytest.raises(InputError, match=message) as caught:
        read_bvh(path)
    assert str(caught.value).startswith(f"{path}: line ")
    assert "\n" not in str(caught.value)


def test_what_is_no_text_and_what_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"none\.bvh: expected a BVH file: No such file"):
        read_bvh(tmp_path / "none.bvh")
    (tmp_path / "video.bvh").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"video\.bvh: expected a BVH file, which is text"):
        read_bvh(tmp_path / "video.bvh")


def test_a_skeleton_without_channels_has_no_frames(tmp_path):
    text = TINY.replace("6 Xposition Yposition Zposition Zrotation Xrotation Yrotation", "0")
    text = text.replace("2 Yrotation Xrotation", "0")
    with pytest.raises(InputError, match="expected a channel of any joint"):
        read_bvh(write(tmp_path, text))
