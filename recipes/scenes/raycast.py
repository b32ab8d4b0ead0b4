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
SHADOW_MARGIN_M = 0.01  # around the bounding box of a shadow
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
        self._geometry = TriangleMesh(self._scene, _float32(vertices), faces.astype(np.int32))

    def first_hits(self, origins: np.ndarray, directions: np.ndarray) -> dict[str, np.ndarray]:
        """Rays (N, 3) => `primID` (N,), -1 for a miss; `u`, `v` and `tfar` (N,)."""
        return self._scene.run(_float32(origins), _float32(directions), query="INTERSECT", output=True)

    def shadowed(self, points: np.ndarray, sun: np.ndarray) -> np.ndarray:
        """Whether the mesh is between each point (N, 3) and the sun, (N,) bool."""
        if not len(points):
            return np.zeros(0, dtype=bool)
        return self._scene.run(_float32(points), _float32(np.broadcast_to(sun, points.shape))) >= 0


class View:
    """What `camera` sees of the empty `surroundings`, and its rays: computed once, the same at every instant."""

    def __init__(self, camera: Camera, surroundings: Surroundings):
        self.camera, self.surroundings = camera, surroundings
        self.samples = camera.size * SUPERSAMPLE
        self.directions = camera_rays(camera, self.samples)  # (S, S, 3)
        self._rays, self._points, self._shade, self._shadow = _floor(camera, self.directions)
        self._empty = np.tile(surroundings.background, (self.samples**2, 1))
        self._empty[self._rays] *= self._shade[:, None]

    def render(self, mesh: Mesh) -> np.ndarray:
        """One picture (H, W, 3) uint8 sRGB of `mesh` in the surroundings."""
        linear = self._shade_floor(mesh)
        rows, columns = _bounding_box(mesh, self.camera, self.samples)
        inside = np.arange(self.samples**2).reshape(self.samples, self.samples)[rows, columns].ravel()
        if len(inside):
            directions = self.directions[rows, columns].reshape(-1, 3)
            index, colour = _shade_mesh(mesh, self.camera, self.surroundings, directions)
            linear[inside[index]] = colour
        # Average in linear light, then encode.
        grid = linear.reshape(self.samples, self.samples, 3)
        shifts = [grid[y::SUPERSAMPLE, x::SUPERSAMPLE] for y in range(SUPERSAMPLE) for x in range(SUPERSAMPLE)]
        blocks = sum(shifts[1:], start=shifts[0]) / len(shifts)
        return np.round(linear_to_srgb(np.clip(blocks, 0, 1)) * 255).astype(np.uint8)

    def _shade_floor(self, mesh: Mesh) -> np.ndarray:
        """Linear colours (S · S, 3) of the floor with the shadow of `mesh`, and of the wall of the same colour."""
        near = np.flatnonzero(_can_be_shadowed(mesh, self._points, self.surroundings.sun) & (self._shadow > 0))
        dark = mesh.shadowed(self._points[near] + [0, 1e-3, 0], self.surroundings.sun)
        near, shadow = near[dark], self._shadow[near[dark]]
        colours = self._empty.copy()
        colours[self._rays[near]] = self.surroundings.background * (self._shade[near] * (1 - shadow))[:, None]
        return colours


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
    barycentric = np.stack([1 - u - v, u, v], axis=1)  # (M, 3)
    normals = np.einsum("nk,nkd->nd", barycentric, mesh.normals[corners])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    points = eye + directions[index] * hits["tfar"][index, None]

    facing_sun = np.maximum(normals @ surroundings.sun, 0)
    lit = facing_sun > 0
    lit[lit] = ~mesh.shadowed(points[lit] + 4e-3 * normals[lit], surroundings.sun)
    upward = (0.5 + 0.5 * normals[:, 1])[:, None]
    light = upward * SKY_LIGHT + (1 - upward) * FLOOR_LIGHT + (facing_sun * lit)[:, None] * SUN_LIGHT
    return index, mesh.paint(np.einsum("nk,nka->na", barycentric, mesh.fields[corners])) * light


def _floor(camera: Camera, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Indices (N,) of the rays (S, S, 3) that hit the floor y = 0, where (N, 3), its shade (N,) and a shadow's (N,)."""
    flat, eye = directions.reshape(-1, 3), camera.c2w[:3, 3]
    down = np.flatnonzero(flat[:, 1] < -1e-3)
    points = eye - flat[down] * (eye[1] / flat[down, 1])[:, None]
    radius = np.hypot(points[:, 0], points[:, 2])
    shade = MAT_SHADE + (1 - MAT_SHADE) * _smoothstep((radius - MAT_RADIUS_M) / (0.5 * MAT_RADIUS_M))
    fade = 1 - _smoothstep((radius / SHADOW_REACH_M - 0.5) / 0.5)  # 0 from SHADOW_REACH_M on
    return down, points, shade, (1 - SHADOW_SHADE) * fade


def _can_be_shadowed(mesh: Mesh, points: np.ndarray, sun: np.ndarray) -> np.ndarray:
    """Whether points (N, 3) of the floor are in the bounding box of the mesh's shadow, (N,) bool."""
    cast = (mesh.vertices - mesh.vertices[:, 1:2] * (sun / sun[1]))[:, [0, 2]]
    low, high = cast.min(0) - SHADOW_MARGIN_M, cast.max(0) + SHADOW_MARGIN_M
    on_floor = points[:, [0, 2]]
    return ((on_floor >= low) & (on_floor <= high)).all(1)


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
