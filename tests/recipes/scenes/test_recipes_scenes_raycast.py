import numpy as np
import pytest
from cameras import Camera, jittered_cameras, look_at_camera, poses_bounds, ring_cameras
from raycast import Mesh, Surroundings, View, linear_to_srgb, srgb_to_linear
from skinning import vertex_normals

BACKGROUND = np.full(3, 0.8)
RED = np.array([0.9, 0.0, 0.0])


def octahedron(centre, radius):
    """Vertices (6, 3) and faces (8, 3) of a small solid, whose silhouette is centred from every direction."""
    vertices = centre + radius * np.concatenate([np.eye(3), -np.eye(3)])
    faces = [(a, b, c) if parity > 0 else (a, c, b) for a in (0, 3) for b in (1, 4) for c in (2, 5)
             for parity in [(1 if a == 0 else -1) * (1 if b == 1 else -1) * (1 if c == 2 else -1)]]  # fmt: skip
    return vertices, np.array(faces, dtype=np.int32)


def red_mesh(centre, radius):
    vertices, faces = octahedron(np.asarray(centre, dtype=float), radius)
    fields = np.zeros((len(vertices), 1))
    return Mesh(vertices, vertex_normals(vertices, faces), faces, fields, lambda f: np.tile(RED, (len(f), 1)))


def surroundings(sun=(0.3, 1.0, 0.2)):
    return Surroundings(BACKGROUND, np.array(sun) / np.linalg.norm(sun))


def project_llff(row, point):
    """Project a point with a row of poses_bounds.npy, by the LLFF format's definition => (x, y) in pixels."""
    matrix = row[:15].reshape(3, 5)
    down, right, backward, position = matrix[:, :4].T
    height, width, focal = matrix[:, 4]
    offset = point - position
    depth = -offset @ backward
    return np.array([offset @ right, offset @ down]) / depth * focal + np.array([width, height]) / 2


@pytest.fixture(scope="module")
def sweep():
    """A subject that reaches from the floor to 1.8 m."""
    return np.random.default_rng(0).uniform([-0.5, 0, -0.6], [0.4, 1.8, 0.5], size=(200, 3))


@pytest.mark.parametrize("layout", ["ring", "jittered"])
def test_a_known_point_lands_on_the_pixel_that_poses_bounds_says(sweep, layout):
    point = np.array([0.25, 1.3, -0.35])
    mesh = red_mesh(point, 0.05)
    cameras = make_cameras(layout, sweep, 4)
    for camera, row in zip(cameras, poses_bounds(cameras, sweep), strict=True):
        picture = View(camera, surroundings()).render(mesh).astype(float)
        redness = np.clip(picture[..., 0] - picture[..., 1], 0, None)
        y, x = np.mgrid[:96, :96] + 0.5  # pixel centres
        seen = np.array([(x * redness).sum(), (y * redness).sum()]) / redness.sum()
        np.testing.assert_allclose(seen, project_llff(row, point), atol=0.3)
        np.testing.assert_allclose(camera.project(point[None])[0], project_llff(row, point), atol=1e-9)


def make_cameras(layout: str, sweep, num: int) -> list[Camera]:
    if layout == "ring":
        return ring_cameras(num, 96, sweep, 1.75)
    return jittered_cameras(num, 96, sweep, 1.75, np.random.default_rng(5))


@pytest.mark.parametrize("layout", ["ring", "jittered"])
def test_cameras_keep_the_subject_in_the_picture_and_large(sweep, layout):
    cameras = make_cameras(layout, sweep, 8)
    for camera, (near, far) in zip(cameras, poses_bounds(cameras, sweep)[:, 15:], strict=True):
        rotation = camera.c2w[:3, :3]
        np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1)
        assert rotation[1, 1] < 0  # down in the picture is down in the world
        assert camera.c2w[1, 3] > 0  # above the floor
        pixels = camera.project(sweep)
        assert pixels.min() > 0
        assert pixels.max() < 96
        assert np.ptp(pixels[:, 1]) > 0.4 * 96
        depth = (sweep - camera.c2w[:3, 3]) @ rotation[:, 2]
        assert 0 < near < depth.min()
        assert depth.max() < far


def test_ring_is_even_and_aims_at_one_point(sweep):
    cameras = ring_cameras(8, 96, sweep, 1.75)
    positions = np.array([camera.c2w[:3, 3] for camera in cameras])
    centre = (sweep.min(0) + sweep.max(0)) / 2
    assert np.ptp(np.linalg.norm(positions - centre, axis=1)) < 1e-9
    azimuths = np.rad2deg(np.unwrap(np.arctan2(*(positions - centre)[:, [2, 0]].T)))
    np.testing.assert_allclose(np.diff(azimuths), 45)
    for camera in cameras:
        np.testing.assert_allclose(camera.project(centre[None]), [[48, 48]])


def test_sixteen_ring_cameras_are_eight_and_those_half_way(sweep):
    def directions(num):
        eyes = np.array([camera.c2w[:3, 3] for camera in ring_cameras(num, 96, sweep, 1.75)])
        offset = eyes - (sweep.min(0) + sweep.max(0)) / 2
        return offset / np.linalg.norm(offset, axis=1, keepdims=True)

    eight, sixteen = directions(8), directions(16)
    np.testing.assert_allclose(sixteen[::2], eight, atol=1e-12)
    height = np.arcsin(eight[:, 1])
    np.testing.assert_allclose(np.arcsin(sixteen[1::2, 1]), (height + np.roll(height, -1)) / 2)


def test_jittered_cameras_follow_their_generator(sweep):
    first, again = (make_cameras("jittered", sweep, 3) for _ in range(2))
    other = jittered_cameras(3, 96, sweep, 1.75, np.random.default_rng(6))
    for one, same, different in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one.c2w, same.c2w)
        assert one.focal != different.focal


def test_sun_lights_one_side_and_throws_a_shadow():
    mesh = red_mesh([0, 0.5, 0], 0.3)
    camera = look_at_camera(np.array([0.0, 3.0, 4.0]), np.array([0.0, 0.2, 0.0]), 0.4, 64)
    lit, dark = (View(camera, surroundings((x, 0.6, 0.0))).render(mesh).astype(int) for x in (1.0, -1.0))
    right = camera.project(np.array([[0.12, 0.62, 0.12]])).astype(int)[0]
    assert lit[right[1], right[0], 0] > dark[right[1], right[0], 0] + 30
    left_floor, right_floor = (camera.project(np.array([[x, 0.0, 0.0]])).astype(int)[0] for x in (-0.8, 0.8))
    assert lit[left_floor[1], left_floor[0], 0] < lit[right_floor[1], right_floor[0], 0] - 20
    assert dark[left_floor[1], left_floor[0], 0] > dark[right_floor[1], right_floor[0], 0] + 20


def test_a_view_does_not_remember_what_it_rendered():
    camera = look_at_camera(np.array([0.0, 3.0, 4.0]), np.array([0.0, 0.2, 0.0]), 0.4, 64)
    view, mesh = View(camera, surroundings()), red_mesh([0, 0.5, 0], 0.3)
    view.render(red_mesh([0.4, 0.8, 0], 0.2))
    np.testing.assert_array_equal(view.render(mesh), View(camera, surroundings()).render(mesh))


def test_a_shadow_reaches_far_from_its_body_when_the_sun_is_low():
    camera = look_at_camera(np.array([0.0, 3.0, 4.0]), np.array([0.0, 0.2, 0.0]), 0.4, 64)
    view = View(camera, surroundings((0.9, 0.6, 0.0)))
    picture = view.render(red_mesh([0, 0.8, 0], 0.2)).astype(int)
    empty = view.render(red_mesh([0, -9.0, 0], 0.2)).astype(int)  # under the floor
    dark = camera.project(np.array([[-1.2, 0.0, 0.0]])).astype(int)[0]
    assert picture[dark[1], dark[0], 0] < empty[dark[1], dark[0], 0] - 20


def test_nothing_in_sight_is_background():
    camera = look_at_camera(np.array([0.0, 1.0, 5.0]), np.array([0.0, 4.0, 0.0]), 0.1, 16)
    picture = View(camera, surroundings()).render(red_mesh([0, 0.5, 0], 0.1))
    np.testing.assert_array_equal(picture, np.full_like(picture, round(float(linear_to_srgb(BACKGROUND)[0]) * 255)))


def test_colour_spaces_are_inverse():
    levels = np.linspace(0, 1, 101)
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(levels)), levels, atol=1e-6)
    assert srgb_to_linear(np.array([0.5]))[0] == pytest.approx(0.2140, abs=1e-4)
