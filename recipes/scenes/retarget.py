"""Recordings in BVH files => the joints of `motion.py`, saved in `recordings.safetensors` beside this script.

    python recipes/scenes/retarget.py --bvh /usr/share/assimp/models/BVH

The files come with Debian's package `assimp-testmodels`. They are needed only to run this script.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # the same sums in the same order on every machine

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from assets import default_folder, fetch_wheels
from body import MOTION_FROM_MESH, Shape, build_body
from bvh import Recording, axis_rotation, read_bvh
from motion import JOINTS, Clip
from safetensors.numpy import save
from skinning import CLIP_HIP_HEIGHT, FINGERS, Rigging, pose_body, rig_body

from fourdistill.errors import InputError

OUT = Path(__file__).parent / "recordings.safetensors"
FRAMES_PER_SECOND = 30  # at least as many are kept, at equal intervals
SIDES = ("right", "left")
# The body whose feet define the floor's height: an average build, in the middle of the drawn ones.
STANDARD_SHAPE = Shape("male", "young", 0.5, 0.5, 1.7, (0.34, 0.33, 0.33))


@dataclass(frozen=True)
class Source:
    """A recording's file and the meaning of its joints.

    `trunk`: the joints for our root, chest and neck; `legs` and `arms`: hip, knee, ankle and shoulder, elbow, wrist,
    where `{}` is the side. `rest`: a frame with straight legs and level feet; None: the skeleton's default pose.
    `jumps`: whether the person leaves the floor; if not, whatever they stand on, rungs included, counts as the floor.
    """

    file: str
    trunk: tuple[str, str, str]
    legs: tuple[str, str, str]
    arms: tuple[str, str, str]
    rest: int | None
    jumps: bool


CMU_LEGS, CMU_ARMS = ("{}UpLeg", "{}Leg", "{}Foot"), ("{}Arm", "{}ForeArm", "{}Hand")
SOURCES = {
    "playground_jumps": Source("01_01.bvh", ("Hips", "Spine1", "Head"), CMU_LEGS, CMU_ARMS, rest=0, jumps=True),
    "playground_climbs": Source("01_03.bvh", ("Hips", "Spine1", "Head"), CMU_LEGS, CMU_ARMS, rest=0, jumps=False),
    "boxing": Source(
        "Boxing_Toes.bvh", ("Hips", "Chest", "Head"), ("{}Hip", "{}Knee", "{}Ankle"),
        ("{}Shoulder", "{}Elbow", "{}Wrist"), rest=None, jumps=False,
    ),
}  # fmt: skip


def retarget(recording: Recording, source: Source, standard: Rigging) -> Clip:
    """`recording` with the joints of `motion.py`: every body part has the same world rotation as in the recording.

    Initial direction and position are not changed; heights are such that `standard` stands on the floor.
    """
    every = max(1, int(1 / (FRAMES_PER_SECOND * recording.frame_time)))
    positions, world = recording.world()
    positions, world = positions[::every] @ MOTION_FROM_MESH.T, MOTION_FROM_MESH @ world[::every]
    place = {name: index for index, name in enumerate(recording.joints)}
    if source.rest is None:
        rest = np.tile(MOTION_FROM_MESH, (len(place), 1, 1))
    else:
        rest = world[source.rest]
    turned = world @ rest.transpose(0, 2, 1)

    # 1. World rotation of every joint
    goal = {name: turned[:, place[joint]] for name, joint in zip(("root", "chest", "neck"), source.trunk, strict=True)}
    for side in SIDES:
        for limb, joints, bends in (("leg", source.legs, -1), ("arm", source.arms, 1)):
            chain = [place[joint.format(side.capitalize())] for joint in joints]
            bend = np.linalg.norm(np.cross(*np.diff(positions[:, chain], axis=1).transpose(1, 0, 2)), axis=1)
            if not bend.max() > 0:
                middle = joints[1].format(side.capitalize())
                raise InputError(f"{source.file}: {middle}: expected it to bend in some frame, to know its axis")
            upper, hinge = limb_rotations(positions[:, chain], turned[:, chain[0]], bends)
            names = {"leg": ("hip", "knee"), "arm": ("shoulder", "elbow")}[limb]
            goal[f"{side}_{names[0]}"], goal[f"{side}_{names[1]}"] = upper, upper @ hinge
        goal[f"{side}_ankle"] = turned[:, place[source.legs[2].format(side.capitalize())]]

    # 2. Rotation relative to the parent, in the order of JOINTS
    local = [goal[name] if parent is None else goal[parent].transpose(0, 2, 1) @ goal[name]
             for name, (parent, _) in JOINTS.items()]  # fmt: skip
    rotations = np.stack([matrix_quaternions(part) for part in local], axis=1)

    # 3. Position of the hips
    legs = [[place[joint.format(side.capitalize())] for joint in source.legs] for side in SIDES]
    figure = CLIP_HIP_HEIGHT / standard.hip_height
    size = figure * _standard_leg(standard) / np.mean([_leg(positions[0, leg]) for leg in legs])
    hips = positions[:, [leg[0] for leg in legs]].mean(1) * size
    hips[:, 1] = figure * standing_heights(standard, rotations)
    if source.jumps:
        lowest = positions[..., 1].min(1) * size
        hips[:, 1] += np.maximum(lowest - np.median(lowest), 0)
    return Clip(np.arange(len(hips)) * (every * recording.frame_time), hips, rotations)


def limb_rotations(joints: np.ndarray, turned: np.ndarray, sign: int) -> tuple[np.ndarray, np.ndarray]:
    """A limb of two bones => rotations (T, 3, 3) of the upper one in the world and of the hinge between them.

    `joints` (T, 3, 3): positions of its three joints; `turned` (T, 3, 3): rotation of the upper bone from its rest
    pose. At rest, a limb of `motion.py` hangs down. Its hinge turns about z by an angle of sign `sign`, +1 or -1, or 0.
    """
    upper, lower = (_unit(joints[:, end] - joints[:, end - 1]) for end in (1, 2))
    normal = sign * np.cross(upper, lower)
    # A straight limb does not define a bending plane. The hinge axis is fixed to the upper bone, so the whole recording
    # determines it. The more the limb is bent, the more weight its own plane gets.
    in_bone = np.einsum("tji,tj->ti", turned, normal)
    axis = np.linalg.eigh(in_bone.T @ in_bone)[1][:, -1]
    axis = axis * np.sign(np.sum(in_bone @ axis))
    straight = np.where(np.sum(upper * lower, axis=1) > 0, 1 - np.linalg.norm(normal, axis=1), 0)[:, None]
    z = straight * (turned @ axis) + (1 - straight) * _unit(normal + 1e-12 * (turned @ axis))
    z = _unit(z - upper * np.sum(z * upper, axis=1, keepdims=True))
    angle = np.arctan2(sign * np.sum(normal * z, axis=1), np.sum(upper * lower, axis=1))
    hinge = axis_rotation(2, sign * np.maximum(sign * angle, 0))
    return np.stack([np.cross(-upper, z), -upper, z], axis=2), hinge


def standing_heights(rigging: Rigging, rotations: np.ndarray) -> np.ndarray:
    """Hip heights (T,), in metres, of a body that touches the floor in every pose of `rotations` (T, 13, 4).

    Hands are excluded: without wrist joints they cannot lie flat, and would lift a body that leans on them.
    """
    counts = rigging.body.influence("hand", *FINGERS) < 0.1
    return np.array([-pose_body(rigging, np.zeros(3), pose)[counts, 1].min() for pose in rotations])


def matrix_quaternions(matrices: np.ndarray) -> np.ndarray:
    """Rotation matrices (T, 3, 3) => unit quaternions (T, 4), each with the sign closest to its predecessor.

    Each is the eigenvector of a symmetric matrix's largest eigenvalue: Bar-Itzhack, "New method for extracting the
    quaternion from a rotation matrix" (2000).
    """
    (a, b, c), (d, e, f), (g, h, i) = matrices.transpose(1, 2, 0)
    rows = [[a + e + i, h - f, c - g, d - b], [h - f, a - e - i, b + d, c + g],
            [c - g, b + d, e - a - i, f + h], [d - b, c + g, f + h, i - a - e]]  # fmt: skip
    quaternions = np.linalg.eigh(np.array(rows).transpose(2, 0, 1))[1][..., -1]
    steps = np.sum(quaternions[1:] * quaternions[:-1], axis=1)
    return quaternions * np.cumprod(np.concatenate([np.sign(quaternions[:1, 0]), np.where(steps < 0, -1, 1)]))[:, None]


def _leg(joints: np.ndarray) -> float:
    """Total length of thigh and shin; `joints` (3, 3): hip, knee and ankle."""
    return float(np.linalg.norm(np.diff(joints, axis=0), axis=1).sum())


def _standard_leg(standard: Rigging) -> float:
    return _leg(np.array([standard.body.skeleton.head(bone) for bone in ("thigh_l", "calf_l", "foot_l")]))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def pack(clips: dict[str, Clip]) -> bytes:
    """Clips => the bytes of a safetensors file that `clips.py` reads."""
    tensors = {}
    for name, clip in clips.items():
        tensors[f"{name}.times"] = clip.times.astype(np.float32)
        tensors[f"{name}.root_positions"] = clip.root_positions.astype(np.float32)
        tensors[f"{name}.rotations"] = clip.rotations.astype(np.float32)
    return save(tensors)


def command(
    bvh: Annotated[Path, typer.Option(help="The folder of the BVH files, from Debian's `assimp-testmodels`.")],
    out: Annotated[Path, typer.Option(help="The file to write.")] = OUT,
    wheels: Annotated[Path | None, typer.Option(help="Where the body's wheel is kept.")] = None,
) -> None:
    """Retarget the three recordings; the same files give the same bytes."""
    folder = wheels or default_folder()
    try:
        for source in SOURCES.values():
            if not (bvh / source.file).is_file():
                raise InputError(f"{bvh / source.file}: expected this file: `apt-get install assimp-testmodels`")
        fetch_wheels(folder)
        standard = rig_body(build_body(folder, STANDARD_SHAPE))
        clips = {name: retarget(read_bvh(bvh / source.file), source, standard) for name, source in SOURCES.items()}
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    unfinished = out.with_suffix(".tmp")
    unfinished.write_bytes(pack(clips))
    unfinished.replace(out)


if __name__ == "__main__":
    typer.run(command)
