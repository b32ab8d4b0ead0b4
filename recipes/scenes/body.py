"""The CC0 MakeHuman body: a shape mixed from macro targets, its mesh, and its skeleton.

Everything is in metres in the motion frame: +x forward, y up, +z to the person's right.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from assets import base_mesh, macro_target, rig, rig_weights

BONES_PER_VERTEX = 4
MESH_GROUPS = ("body", "helper-l-eye", "helper-r-eye")
# From the mesh's frame (+x to the person's left, y up, +z forward) to the motion frame, for column vectors.
MOTION_FROM_MESH = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])


@dataclass(frozen=True)
class Shape:
    """A person's build: `age` child, young or old; `muscle` and `weight` in [0, 1] (0.5 is average); `height` in m.

    `ancestry` holds the shares of the african, asian and caucasian targets and sums to 1.
    """

    sex: str
    age: str
    muscle: float
    weight: float
    height: float
    ancestry: tuple[float, float, float]


@dataclass(frozen=True)
class Skeleton:
    """`bones` in order, parents first; `parents` (B,) indices or -1; `heads` (B, 3) joint positions at rest."""

    bones: tuple[str, ...]
    parents: tuple[int, ...]
    heads: np.ndarray

    def head(self, bone: str) -> np.ndarray:
        """Start position of `bone`, (3,)."""
        return self.heads[self.bones.index(bone)]


@dataclass(frozen=True)
class Body:
    """A mesh bound to a skeleton.

    `vertices` (V, 3); `faces` (F, 3) int32; `group` (V,) index into `MESH_GROUPS`;
    `bone_index` and `bone_weight` (V, 4), rows of weights sum to 1.
    """

    vertices: np.ndarray
    faces: np.ndarray
    group: np.ndarray
    bone_index: np.ndarray
    bone_weight: np.ndarray
    skeleton: Skeleton

    def influence(self, *prefixes: str) -> np.ndarray:
        """Total weight of the bones whose names start with one of `prefixes`, (V,) in [0, 1]."""
        chosen = np.array([bone.startswith(prefixes) for bone in self.skeleton.bones])
        return (self.bone_weight * chosen[self.bone_index]).sum(1)


def build_body(folder: Path, shape: Shape) -> Body:
    """Mix the targets for `shape`, scale the result to its height, and bind it to the rig (feet at y = 0)."""
    mesh = base_mesh(folder)
    vertices = mesh.vertices.copy()
    for name, share in _targets(shape):
        index, offsets = macro_target(folder, name)
        vertices[index] += share * offsets
    vertices = vertices @ MOTION_FROM_MESH.T
    skin = vertices[np.unique(mesh.groups["body"])]
    low, high = skin[:, 1].min(), skin[:, 1].max()
    vertices = (vertices - [0, low, 0]) * (shape.height / (high - low))

    quads = np.concatenate([mesh.groups[name] for name in MESH_GROUPS])
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    used, faces = np.unique(triangles, return_inverse=True)
    group = np.zeros(len(mesh.vertices), dtype=int)
    for index, name in enumerate(MESH_GROUPS):
        group[np.unique(mesh.groups[name])] = index
    skeleton = _skeleton(folder, vertices)
    bone_index, bone_weight = _strongest_bones(folder, skeleton, len(vertices))
    return Body(
        vertices[used],
        faces.reshape(-1, 3).astype(np.int32),
        group[used],
        bone_index[used],
        bone_weight[used],
        skeleton,
    )


def _targets(shape: Shape) -> Iterator[tuple[str, float]]:
    """The names and shares of the targets that make up `shape`."""
    levels = [_between("muscle", shape.muscle), _between("weight", shape.weight)]
    for (muscle, muscle_share), (weight, weight_share) in product(*levels):
        if muscle_share * weight_share > 0:
            yield f"universal-{shape.sex}-{shape.age}-{muscle}-{weight}", muscle_share * weight_share
    for ancestry, share in zip(("african", "asian", "caucasian"), shape.ancestry, strict=True):
        if share > 0:
            yield f"{ancestry}-{shape.sex}-{shape.age}", share


def _between(quality: str, value: float) -> list[tuple[str, float]]:
    """`value` in [0, 1] => shares of the average target and of the extreme one on its side."""
    extreme = "min" if value < 0.5 else "max"
    share = abs(value - 0.5) * 2
    return [(f"average{quality}", 1 - share), (f"{extreme}{quality}", share)]


def _skeleton(folder: Path, vertices: np.ndarray) -> Skeleton:
    """The rig's joints on a shaped mesh, each at the mean of the vertices given by its strategy."""
    mesh, bones = base_mesh(folder), rig(folder)
    ordered: list[str] = []
    while len(ordered) < len(bones):
        ordered += [bone for bone, entry in bones.items() if bone not in ordered and entry["parent"] in ["", *ordered]]
    heads = []
    for bone in ordered:
        place = bones[bone]["head"]
        if place["strategy"] == "CUBE":
            heads.append(vertices[np.unique(mesh.groups[place["cube_name"]])].mean(0))
        else:  # "MEAN", the only other strategy in the game-engine rig
            heads.append(vertices[place["vertex_indices"]].mean(0))
    parents = tuple(ordered.index(bones[bone]["parent"]) if bones[bone]["parent"] else -1 for bone in ordered)
    return Skeleton(tuple(ordered), parents, np.array(heads))


def _strongest_bones(folder: Path, skeleton: Skeleton, num_vertices: int) -> tuple[np.ndarray, np.ndarray]:
    """The four strongest bones of every vertex: indices (V, 4) and weights (V, 4) that sum to 1."""
    dense = np.zeros((num_vertices, len(skeleton.bones)))
    for bone, rows in rig_weights(folder).items():
        dense[rows[:, 0].astype(int), skeleton.bones.index(bone)] = rows[:, 1]
    index = np.argsort(-dense, axis=1, kind="stable")[:, :BONES_PER_VERTEX]
    weight = np.take_along_axis(dense, index, axis=1)
    return index, weight / np.maximum(weight.sum(1, keepdims=True), 1e-9)
