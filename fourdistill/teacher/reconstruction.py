"""The teacher: backdrop, hull and planes of one scene, which render it; and its file format."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from fourdistill.errors import InputError
from fourdistill.geometry.scene_frame import SceneFrame
from fourdistill.storage.files import new_file
from fourdistill.teacher.backdrop import Backdrop
from fourdistill.teacher.hull import Hull
from fourdistill.teacher.kplanes import KPlanes
from fourdistill.teacher.lattice import Lattice
from fourdistill.teacher.pixel_rays import pixel_rays
from fourdistill.teacher.rays import hull_vertices, sample_rays
from fourdistill.teacher.scene_images import to_scene_frame
from fourdistill.teacher.teacher import Rendering
from fourdistill.teacher.volume import render_rays

FORMAT = "fourdistill-teacher-2"


@dataclass(frozen=True)
class Reconstruction:
    """A `Teacher` of one scene in `frame`; it renders pictures of `size` (height, width)."""

    frame: SceneFrame
    size: tuple[int, int]
    backdrop: Backdrop
    hull: Hull
    planes: KPlanes

    @torch.no_grad()
    def render(self, c2w: ArrayLike, K: ArrayLike, time: float) -> Rendering:
        """Pose (4, 4) in the source's units, K (3, 3) in pixels, time in [0, 1] => image, alpha and depth."""
        pose, K = to_scene_frame(self.frame, c2w), np.asarray(K, np.float64)
        background = self.backdrop.view(K, pose, time, self.size)
        occupied = self.hull.at(time)
        vertices = hull_vertices(occupied)
        samples = sample_rays(self.hull.lattice, occupied, vertices, [(K, pose)], self.size)
        instant = float(np.interp(time, self.hull.times, np.arange(len(self.hull.times))))
        pixel = samples.pixel
        behind = torch.from_numpy(background.reshape(-1, 3))[pixel]
        color, opacity, distance = render_rays(samples, self.planes(vertices.index, instant), behind)

        image = background.reshape(-1, 3).copy()
        image[pixel.numpy()] = color.numpy()
        alpha, depth = np.zeros(len(image), np.float32), np.full(len(image), np.inf, np.float32)
        alpha[pixel.numpy()] = opacity.numpy()
        _, directions = pixel_rays(K, pose, self.size)
        along_z = distance.numpy() * (directions[pixel.numpy()] @ pose[:3, 2]) * self.frame.scale
        depth[pixel.numpy()] = np.where(opacity.numpy() > 0.05, along_z, np.inf)
        return Rendering(
            image.reshape(*self.size, 3).clip(0, 1), alpha.reshape(self.size).clip(0, 1), depth.reshape(self.size)
        )


def save_reconstruction(reconstruction: Reconstruction, path: Path) -> None:
    """Write a teacher atomically to one safetensors file."""
    hull, backdrop, frame = reconstruction.hull, reconstruction.backdrop, reconstruction.frame
    tensors = {f"planes.{name}": value.contiguous() for name, value in reconstruction.planes.state_dict().items()}
    tensors |= {
        "backdrop.texture": torch.from_numpy(backdrop.texture).half(),
        "backdrop.color": torch.from_numpy(backdrop.color),
        "hull.occupied": torch.from_numpy(np.packbits(hull.occupied)),
        "times": torch.from_numpy(hull.times),
        "frame.center": torch.from_numpy(frame.center),
        "frame.axes": torch.from_numpy(frame.axes),
    }
    facts = {
        "format": FORMAT,
        "size": reconstruction.size,
        "scale": frame.scale,
        "floor": [backdrop.height, backdrop.half],
        "lattice": [hull.lattice.origin, hull.lattice.spacing, hull.lattice.shape],
    }
    with new_file(path) as partial:  # one key: safetensors writes several in random order
        save_file(tensors, partial, metadata={"facts": json.dumps(facts)})


def load_reconstruction(path: Path) -> Reconstruction:
    """Read a teacher; raises `InputError` with the file's name if it is no teacher."""
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get("facts", "{}"))
            if facts.get("format") != FORMAT:
                raise InputError(f"{path}: format: expected {FORMAT}, found {facts.get('format')}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: expected a teacher in safetensors, found none that can be read") from error
    origin, spacing, shape = facts["lattice"]
    times = tensors["times"].numpy()
    bits = np.unpackbits(tensors["hull.occupied"].numpy(), count=len(times) * int(np.prod(shape)))
    hull = Hull(Lattice(tuple(origin), spacing, tuple(shape)), bits.reshape(-1, *shape).astype(bool), times)
    texture, color = tensors["backdrop.texture"].float().numpy(), tensors["backdrop.color"].numpy()
    floor, half = facts["floor"]
    backdrop = Backdrop(floor, half, texture, color, times)
    planes = KPlanes(shape, len(times), torch.Generator())
    prefix = "planes."
    planes.load_state_dict(
        {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    )
    frame = SceneFrame(tensors["frame.center"].numpy(), tensors["frame.axes"].numpy(), facts["scale"])
    height, width = facts["size"]
    return Reconstruction(frame, (height, width), backdrop, hull, planes)
