"""Linear blend skinning: the body follows the joints of a motion clip."""

from dataclasses import dataclass

import numpy as np
from body import Body, Skeleton
from motion import rotation_matrix, slerp, world_rotations

FINGERS = ("thumb", "index", "middle", "ring", "pinky")
# The spine and neck of the rig have more joints than the clip, whose rotation is distributed over them.
# Bone → (joint below, joint above, interpolation weight between them).
SHARED_BONES = {
    "spine_01": ("root", "chest", 0.35),
    "spine_02": ("root", "chest", 0.7),
    "neck_01": ("chest", "neck", 0.5),
    # A raised arm lifts the collar bone.
    "clavicle_l": ("chest", "left_shoulder", 0.15),
    "clavicle_r": ("chest", "right_shoulder", 0.15),
}
FULL_BONES = {"Root": "root", "pelvis": "root", "spine_03": "chest", "head": "neck"}
LIMB_BONES = {
    "thigh": "hip", "calf": "knee", "foot": "ankle", "ball": "ankle", "upperarm": "shoulder", "lowerarm": "elbow",
    "hand": "elbow", **dict.fromkeys(FINGERS, "elbow"),
}  # fmt: skip
# Hip height of the clips' figure; root positions scale with a body's own hip height.
CLIP_HIP_HEIGHT = 0.88


@dataclass(frozen=True)
class Rigging:
    """Constants over frames: `alignment` (B, 3, 3) rotates the resting A-pose into the clip's rest pose.

    In the clips' rest pose, arms and legs hang straight down; the mesh has them spread.
    """

    body: Body
    alignment: np.ndarray

    @property
    def hip_height(self) -> float:
        """Metres from the soles to the hip joints at rest."""
        return float(self.body.skeleton.head("thigh_l")[1])


def rig_body(body: Body) -> Rigging:
    """Compute the rotations that make the limbs of `body` hang straight down."""
    skeleton = body.skeleton
    alignment = np.tile(np.eye(3), (len(skeleton.bones), 1, 1))
    for side in ("_l", "_r"):
        limbs = {"thigh": "calf", "calf": "foot", "upperarm": "lowerarm", "lowerarm": "hand"}
        straight = {
            limb: _rotation_between(skeleton.head(end + side) - skeleton.head(limb + side), np.array([0.0, -1.0, 0.0]))
            for limb, end in limbs.items()
        }
        for index, bone in enumerate(skeleton.bones):
            if bone.endswith(side):
                limb = bone.split("_")[0]
                limb = "lowerarm" if limb == "hand" or limb in FINGERS else limb
                alignment[index] = straight.get(limb, np.eye(3))
    return Rigging(body, alignment)


def pose_body(rigging: Rigging, root_position: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Vertices (V, 3) of the body in a clip's pose: `root_position` (3,) as recorded, `rotations` (13, 4) local."""
    skeleton = rigging.body.skeleton
    bone_rotations = bone_world_rotations(skeleton, rotations) @ rigging.alignment
    joints = np.zeros_like(skeleton.heads)
    for index, parent in enumerate(skeleton.parents):
        if parent >= 0:
            joints[index] = joints[parent] + bone_rotations[parent] @ (skeleton.heads[index] - skeleton.heads[parent])
    hips = [skeleton.bones.index(bone) for bone in ("thigh_l", "thigh_r")]
    joints += root_position * (rigging.hip_height / CLIP_HIP_HEIGHT) - joints[hips].mean(0)
    return blend(rigging.body, bone_rotations, joints)


def bone_world_rotations(skeleton: Skeleton, rotations: np.ndarray) -> np.ndarray:
    """Local joint rotations (13, 4) of a clip => world rotations (B, 3, 3) of the rig's bones."""
    world = world_rotations(rotations)
    matrices = {joint: rotation_matrix(quaternion) for joint, quaternion in world.items()}
    result = []
    for bone in skeleton.bones:
        if bone in SHARED_BONES:
            lower, upper, share = SHARED_BONES[bone]
            result.append(rotation_matrix(slerp(world[lower], world[upper], share)))
        elif bone in FULL_BONES:
            result.append(matrices[FULL_BONES[bone]])
        else:
            side = "left_" if bone.endswith("_l") else "right_"
            result.append(matrices[side + LIMB_BONES[bone.split("_")[0]]])
    return np.stack(result)


def blend(body: Body, bone_rotations: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Skin `body` with bones rotated by `bone_rotations` (B, 3, 3), heads at `joints` (B, 3) => vertices (V, 3)."""
    # x => R (x - head) + joint, written as R x + t so that the blend is one weighted sum of 3 × 4 matrices
    translations = joints - np.einsum("bij,bj->bi", bone_rotations, body.skeleton.heads)
    transforms = np.concatenate([bone_rotations, translations[:, :, None]], axis=2)  # (B, 3, 4)
    mixed = np.zeros((len(body.vertices), 3, 4))
    for column in range(body.bone_index.shape[1]):
        mixed += body.bone_weight[:, column, None, None] * transforms[body.bone_index[:, column]]
    return np.einsum("vij,vj->vi", mixed[:, :, :3], body.vertices) + mixed[:, :, 3]


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals (V, 3), averaged over faces weighted by area."""
    corners = vertices[faces]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    index = faces.ravel()
    summed = [np.bincount(index, np.repeat(face_normals[:, axis], 3), len(vertices)) for axis in range(3)]
    normals = np.stack(summed, axis=1)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def _rotation_between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The smallest rotation (3, 3) that turns direction `start` into `end` (not opposite to it)."""
    start, end = start / np.linalg.norm(start), end / np.linalg.norm(end)
    x, y, z = np.cross(start, end)
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + skew + skew @ skew / (1 + start @ end)
