"""Ray casting on the CPU: a coloured triangle mesh on a pale floor, lit by sky and sun, with shadows."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from cameras import Camera
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

SKY_LIGHT = np.array([0.50, 0.53, 0.58])  # received by a surface that faces up, linear light
FLOOR_LIGHT = np.array([0.34, 0.32, 0.30])  # received by a surface that faces down
SUN_LIGHT = np.array([0.78, 0.74, 0.66])
MAT_RADIUS_M = 1.0  # a slightly darker disc around the subject; its ellipse shows the camera's elevation
MAT_SHADE = 0.86
SHADOW_SHADE = 0.52
SHADOW_REACH_M = 3.0
SUPERSAMPLE = 2


@dataclass(frozen=True)
class Surroundings:
    """`background` (3,) linear colour of floor and wall; `sun` (3,) unit direction towards the sun."""

    background: np.ndarray
    sun: np.ndarray


class Mesh:
    """A triangle mesh for ray casting: `vertices` (V, 3), `normals` (V, 3), `faces` (F, 3), `fields` (V, A).

    `fields` are interpolated at each hit and passed to `paint`, which returns linear colours (N, 3).
    """

    def __init__(
        self,
        vertices: np.ndarray,
        normals: np.ndarray,
        faces: np.ndarray,
        fields: np.ndarray,
        paint: Callable[[np.ndarray], np.ndarray],
    ):
        self.vertices, self.normals, self.faces, self.fields, self.paint = vertices, normals, faces, fields, paint
        self._scene = EmbreeScene()
        # The geometry registers itself with the scene; both must be kept alive.
        self._geometry = TriangleMesh(self._scene, vertices[faces].astype(np.float32))

    def first_hits(self, origins: np.ndarray, directions: np.ndarray) -> dict[str, np.ndarray]:
        """Rays (N, 3) => `primID` (N,), -1 for a miss; `u`, `v` and `tfar` (N,)."""
        return self._scene.run(_float32(origins), _float32(directions), query="INTERSECT", output=True)

    def shadowed(self, points: np.ndarray, sun: np.ndarray) -> np.ndarray:
        """Whether the mesh is between each point (N, 3) and the sun, (N,) bool."""
        if not len(points):
            return np.zeros(0, dtype=bool)
        return self._scene.run(_float32(points), _float32(np.broadcast_to(sun, points.shape))) >= 0


def render(mesh: Mesh, camera: Camera, surroundings: Surroundings) -> np.ndarray:
    """One picture (H, W, 3) uint8 sRGB of `mesh` as `camera` sees it."""
    samples = camera.size * SUPERSAMPLE
    directions = camera_rays(camera, samples)  # (S, S, 3)
    linear = _shade_floor(mesh, camera, surroundings, directions.reshape(-1, 3))
    rows, columns = _bounding_box(mesh, camera, samples)
    inside = np.arange(samples * samples).reshape(samples, samples)[rows, columns].ravel()
    if len(inside):
        index, colour = _shade_mesh(mesh, camera, surroundings, directions[rows, columns].reshape(-1, 3))
        linear[inside[index]] = colour
    # Average in linear light, then encode.
    blocks = linear.reshape(camera.size, SUPERSAMPLE, camera.size, SUPERSAMPLE, 3).mean((1, 3))
    return np.round(linear_to_srgb(np.clip(blocks, 0, 1)) * 255).astype(np.uint8)


def camera_rays(camera: Camera, samples: int) -> np.ndarray:
    """Unit directions (S, S, 3) through the cell centres of an S × S grid over the picture."""
    grid = ((np.arange(samples) + 0.5) / samples - 0.5) * camera.size / camera.focal
    x, y = np.meshgrid(grid, grid)
    directions = np.stack([x, y, np.ones_like(x)], axis=-1) @ camera.c2w[:3, :3].T
    return directions / np.linalg.norm(directions, axis=-1, keepdims=True)


def srgb_to_linear(colour: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] => linear light in [0, 1]."""
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(colour: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] => sRGB in [0, 1]."""
    return np.where(colour <= 0.0031308, colour * 12.92, 1.055 * np.maximum(colour, 1e-9) ** (1 / 2.4) - 0.055)


def _shade_mesh(
    mesh: Mesh, camera: Camera, surroundings: Surroundings, directions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Indices (M,) of the rays (N, 3) that hit the mesh, and their linear colours (M, 3)."""
    eye = camera.c2w[:3, 3]
    hits = mesh.first_hits(np.broadcast_to(eye, directions.shape), directions)
    index = np.flatnonzero(hits["primID"] >= 0)
    corners = mesh.faces[hits["primID"][index]]  # (M, 3)
    u, v = hits["u"][index], hits["v"][index]
    barycentric = np.stack([1 - u - v, u, v], axis=1)[:, :, None]  # (M, 3, 1)
    normals = (barycentric * mesh.normals[corners]).sum(1)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    points = eye + directions[index] * hits["tfar"][index, None]

    facing_sun = np.maximum(normals @ surroundings.sun, 0)
    lit = facing_sun > 0
    lit[lit] = ~mesh.shadowed(points[lit] + 4e-3 * normals[lit], surroundings.sun)
    upward = (0.5 + 0.5 * normals[:, 1])[:, None]
    light = upward * SKY_LIGHT + (1 - upward) * FLOOR_LIGHT + (facing_sun * lit)[:, None] * SUN_LIGHT
    return index, mesh.paint((barycentric * mesh.fields[corners]).sum(1)) * light


def _shade_floor(mesh: Mesh, camera: Camera, surroundings: Surroundings, directions: np.ndarray) -> np.ndarray:
    """Linear colours (N, 3) of rays that hit only the floor y = 0 or the wall of the same colour."""
    colours = np.tile(surroundings.background, (len(directions), 1))
    down = np.flatnonzero(directions[:, 1] < -1e-3)
    eye = camera.c2w[:3, 3]
    points = eye - directions[down] * (eye[1] / directions[down, 1])[:, None]
    radius = np.hypot(points[:, 0], points[:, 2])
    shade = MAT_SHADE + (1 - MAT_SHADE) * _smoothstep((radius - MAT_RADIUS_M) / (0.5 * MAT_RADIUS_M))
    near = np.flatnonzero(radius < SHADOW_REACH_M)
    dark = mesh.shadowed(points[near] + [0, 1e-3, 0], surroundings.sun)
    fade = 1 - _smoothstep((radius[near] / SHADOW_REACH_M - 0.5) / 0.5)
    shade[near] *= 1 - (1 - SHADOW_SHADE) * fade * dark
    colours[down] *= shade[:, None]
    return colours


def _bounding_box(mesh: Mesh, camera: Camera, samples: int) -> tuple[slice, slice]:
    """Rows and columns of the ray grid that can hit the mesh; other rays are not cast at it."""
    pixels = camera.project(mesh.vertices) * (samples / camera.size)
    low = np.clip(np.floor(pixels.min(0)).astype(int) - 1, 0, samples)
    high = np.clip(np.ceil(pixels.max(0)).astype(int) + 1, 0, samples)
    return slice(low[1], high[1]), slice(low[0], high[0])


def _smoothstep(value: np.ndarray) -> np.ndarray:
    value = np.clip(value, 0, 1)
    return value * value * (3 - 2 * value)


def _float32(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.float32)
