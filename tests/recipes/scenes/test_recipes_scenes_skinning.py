import numpy as np
import pytest
from body import Body, Shape, Skeleton, build_body
from clothes import FIELDS, LEGS, SLEEVES, Outfit, garment_fields, regions, thickness
from motion import rotation_matrix
from skinning import blend, pose_body, rig_body, vertex_normals

REST = np.tile([1.0, 0.0, 0.0, 0.0], (13, 1))


@pytest.fixture
def rod():
    """A rod of four points along y: each half follows one bone, with the joint at y = 1."""
    skeleton = Skeleton(("lower", "upper"), (-1, 0), np.array([[0.0, 0, 0], [0, 1, 0]]))
    vertices = np.array([[0.0, 0.0, 0], [0, 0.5, 0], [0, 1.5, 0], [0, 2.0, 0]])
    weight = np.tile([1.0, 0, 0, 0], (4, 1))
    index = np.array([[0, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]])
    return Body(vertices, np.array([[0, 1, 2]], np.int32), np.zeros(4, int), index, weight, skeleton)


def test_blend_leaves_the_rest_pose_and_bends_what_a_bone_moves(rod):
    still = np.tile(np.eye(3), (2, 1, 1))
    np.testing.assert_allclose(blend(rod, still, rod.skeleton.heads), rod.vertices)
    quarter = rotation_matrix(np.array([np.sqrt(0.5), 0, 0, np.sqrt(0.5)]))  # about z: turns y to -x
    bent = blend(rod, np.stack([np.eye(3), quarter]), rod.skeleton.heads)
    np.testing.assert_allclose(bent, [[0, 0, 0], [0, 0.5, 0], [-0.5, 1, 0], [-1, 1, 0]], atol=1e-12)


def test_influence(rod):
    np.testing.assert_array_equal(rod.influence("upper"), [0, 0, 1, 1])
    np.testing.assert_array_equal(rod.influence("upper", "lower"), [1, 1, 1, 1])


def test_vertex_normals_point_out_of_a_counter_clockwise_face():
    normals = vertex_normals(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]]))
    np.testing.assert_allclose(normals, np.tile([0, 0, 1], (3, 1)))


@pytest.fixture(scope="module")
def woman(wheels):
    return build_body(wheels, Shape("female", "young", 0.6, 0.4, 1.66, (0.2, 0.3, 0.5)))


@pytest.mark.network
def test_body_has_its_height_and_stands_on_the_floor(woman):
    assert woman.vertices[:, 1].min() == pytest.approx(0)
    assert woman.vertices[:, 1].max() == pytest.approx(1.66)
    np.testing.assert_allclose(woman.bone_weight.sum(1), 1)
    head, toe, right = (woman.skeleton.head(bone) for bone in ("head", "ball_r", "hand_r"))
    assert head[1] > 1.3  # y up
    assert toe[0] > woman.skeleton.head("foot_r")[0]  # +x forward
    assert right[2] > 0.3  # +z to the right


@pytest.mark.network
def test_skinning_leaves_the_resting_body_unchanged(woman):
    still = np.tile(np.eye(3), (len(woman.skeleton.bones), 1, 1))
    np.testing.assert_allclose(blend(woman, still, woman.skeleton.heads), woman.vertices, atol=1e-9)


@pytest.mark.network
def test_a_clip_at_rest_hangs_the_arms_and_keeps_the_head(woman):
    posed = pose_body(rig_body(woman), np.array([0.0, 0.88, 0.0]), REST)
    hands, head = woman.influence("hand") > 0.9, woman.influence("head") > 0.9
    assert np.abs(posed[hands, 2]).max() < np.abs(woman.vertices[hands, 2]).max() - 0.15
    lift = posed[head] - woman.vertices[head]
    np.testing.assert_allclose(lift, np.broadcast_to(lift[0], lift.shape), atol=1e-9)
    assert np.ptp(posed[:, 1]) == pytest.approx(1.66, abs=0.03)


@pytest.mark.network
@pytest.mark.parametrize("sleeves", SLEEVES)
@pytest.mark.parametrize("legs", LEGS)
def test_clothes_leave_no_gap_and_stand_off_the_skin(woman, sleeves, legs):
    outfit = Outfit((200, 150, 120), "brown", "short", "red", None, sleeves, "blue", legs, "white")
    fields = garment_fields(woman)
    area = regions(fields, outfit)
    y, joint = woman.vertices[:, 1], woman.skeleton.head
    trunk = (fields[:, FIELDS.index("arm_along")] < 0) & (fields[:, FIELDS.index("eye")] == 0)
    from_knee_to_chest = trunk & (y > joint("calf_l")[1] + 0.15) & (y < joint("clavicle_l")[1] - 0.1)
    assert (area["top"] | area["bottom"])[from_knee_to_chest].all()
    if legs == "trousers":
        from_sole_to_chest = trunk & (y < joint("clavicle_l")[1] - 0.1) & ((y < 0.05) | (y > 0.2))
        assert (area["top"] | area["bottom"] | area["shoes"])[from_sole_to_chest].all()
    hands, face = woman.influence("hand") > 0.9, (woman.influence("head") > 0.9) & (woman.vertices[:, 0] > 0.1)
    assert not (area["top"] | area["bottom"])[hands | face].any()

    offset = np.linalg.norm(thickness(woman, fields, outfit) - woman.vertices, axis=1)
    assert 0.005 < np.median(offset[from_knee_to_chest]) < 0.02
    assert offset[hands & (woman.influence("lowerarm") < 0.01)].max() < 0.002
