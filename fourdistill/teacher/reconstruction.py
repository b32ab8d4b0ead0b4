"""The teacher of K-Planes: backdrop, hull and planes of one scene, which render it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike

from fourdistill.teacher.hull import Hull
from fourdistill.teacher.kplanes import KPlanes
from fourdistill.teacher.lattice import Lattice
from fourdistill.teacher.pixel_rays import pixel_rays
from fourdistill.teacher.rays import hull_vertices, sample_rays
from fourdistill.teacher.scene_images import to_scene_frame
from fourdistill.teacher.teacher import Rendering
from fourdistill.teacher.teacher_file import Fitted, read_teacher, under, write_teacher
from fourdistill.teacher.volume import render_rays

FORMAT = "fourdistill-teacher-2"


@dataclass(frozen=True)
class Reconstruction(Fitted):
    """A `Teacher` of one scene."""

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

    def save(self, path: Path) -> None:
        """Write it atomically to one safetensors file."""
        hull = self.hull
        tensors = {f"planes.{name}": value for name, value in self.planes.state_dict().items()}
        tensors["hull.occupied"] = torch.from_numpy(np.packbits(hull.occupied))
        facts = {"lattice": [hull.lattice.origin, hull.lattice.spacing, hull.lattice.shape]}
        write_teacher(path, FORMAT, self, tensors, facts)


def load_reconstruction(path: Path) -> Reconstruction:
    """Read a reconstruction; raises `InputError` with the file's name if it is none."""
    fitted, tensors, facts = read_teacher(path, FORMAT)
    origin, spacing, shape = facts["lattice"]
    times = fitted.backdrop.times
    bits = np.unpackbits(tensors["hull.occupied"].numpy(), count=len(times) * int(np.prod(shape)))
    hull = Hull(Lattice(tuple(origin), spacing, tuple(shape)), bits.reshape(-1, *shape).astype(bool), times)
    planes = KPlanes(shape, len(times), torch.Generator())
    planes.load_state_dict(under(tensors, "planes."))
    return Reconstruction(fitted.frame, fitted.size, fitted.backdrop, hull, planes)
