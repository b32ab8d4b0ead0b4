import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from fourdistill.geometry.camera import intrinsics
from fourdistill.teacher.lattice import Lattice
from fourdistill.teacher.rays import hull_vertices, sample_rays
from fourdistill.teacher.volume import compositing_weights

LATTICE = Lattice((-0.5, -0.5, -0.5), 0.1, (11, 11, 11))


@given(st.lists(st.lists(st.floats(0, 5), min_size=1, max_size=6), min_size=1, max_size=4))
def test_compositing_is_the_closed_form(rays):
    density = torch.tensor([value for ray in rays for value in ray])
    ray = torch.tensor([number for number, values in enumerate(rays) for _ in values])
    first = torch.tensor(np.cumsum([0, *map(len, rays[:-1])]))
    weights = compositing_weights(density, ray, first).numpy()
    expected = []
    for values in rays:
        light = 1.0
        for value in values:
            expected.append(light * (1 - np.exp(-value)))
            light *= np.exp(-value)
    np.testing.assert_allclose(weights, expected, atol=1e-5)


def cube_samples():
    occupied = np.zeros(LATTICE.shape, bool)
    occupied[3:8, 3:8, 3:8] = True
    pose = np.eye(4)
    pose[:3, 3] = [0.03, -0.02, -2]
    vertices = hull_vertices(occupied)
    return vertices, pose, sample_rays(LATTICE, occupied, vertices, [(intrinsics(20, 20, 8, 8), pose)], (16, 16))


def test_sparse_interpolation_is_the_direct_one():
    vertices, pose, samples = cube_samples()
    grid = np.random.default_rng(0).random(LATTICE.shape)
    values = torch.from_numpy(grid[tuple(vertices.index.numpy().T)].astype(np.float32))[:, None]
    pixel = samples.pixel[samples.ray].numpy()
    directions = np.stack([(pixel % 16 + 0.5 - 8) / 20, (pixel // 16 + 0.5 - 8) / 20, np.ones(len(pixel))], 1)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    places = LATTICE.coordinates(pose[:3, 3] + samples.distance.numpy()[:, None] * directions)
    direct = map_coordinates(grid, places.T, order=1)
    assert len(direct) > 100
    np.testing.assert_allclose((samples.from_vertices @ values)[:, 0].numpy(), direct, atol=1e-4)
    np.testing.assert_allclose(samples.outside.numpy(), 0, atol=1e-6)


def test_the_transpose_is_one_and_samples_are_in_order():
    _, _, samples = cube_samples()
    assert torch.equal(samples.from_vertices.to_dense().t(), samples.to_vertices.to_dense())
    ray, distance = samples.ray.numpy(), samples.distance.numpy()
    assert (np.diff(ray) >= 0).all()
    assert (np.diff(distance)[np.diff(ray) == 0] > 0).all()
    assert (ray[samples.first.numpy()] == np.arange(len(samples.first))).all()


def test_an_empty_hull_has_no_samples():
    occupied = np.zeros(LATTICE.shape, bool)
    camera = (intrinsics(20, 20, 8, 8), np.eye(4))
    samples = sample_rays(LATTICE, occupied, hull_vertices(occupied), [camera], (16, 16))
    assert len(samples.ray) == len(samples.first) == 0
