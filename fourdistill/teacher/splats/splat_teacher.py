"""The teacher of Gaussian splatting: backdrop and Gaussians of one scene, which render it; and its file format."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike

from fourdistill.teacher.scene_images import to_scene_frame
from fourdistill.teacher.splats.gaussians import Gaussians
from fourdistill.teacher.splats.rasterizer import Rasterize
from fourdistill.teacher.teacher import Rendering
from fourdistill.teacher.teacher_file import Fitted, read_teacher, under, write_teacher

FORMAT = "fourdistill-splats-1"


@dataclass(frozen=True)
class SplatTeacher(Fitted):
    """A `Teacher` of one scene."""

    gaussians: Gaussians
    rasterize: Rasterize

    @torch.no_grad()
    def render(self, c2w: ArrayLike, K: ArrayLike, time: float) -> Rendering:
        """Pose (4, 4) in the source's units, K (3, 3) in pixels, time in [0, 1] => image, alpha and depth."""
        pose, K = to_scene_frame(self.frame, c2w), np.asarray(K, np.float64)
        device = self.gaussians.means.device
        cameras = (torch.tensor(matrix, dtype=torch.float32, device=device) for matrix in (np.linalg.inv(pose), K))
        viewmats, intrinsics = (camera[None] for camera in cameras)
        found = self.rasterize(self.gaussians.at(time), viewmats, intrinsics, self.size)
        color, alpha, depth = (value[0].cpu().numpy() for value in found)
        background = self.backdrop.view(K, pose, time, self.size)
        image = color + (1 - alpha[..., None]) * background
        depth = np.where(alpha > 0.05, depth * np.float32(self.frame.scale), np.float32(np.inf))
        return Rendering(image.clip(0, 1), alpha.clip(0, 1), depth)

    def save(self, path: Path) -> None:
        """Write it atomically to one safetensors file."""
        tensors = {f"gaussians.{name}": value.cpu() for name, value in self.gaussians.state_dict().items()}
        write_teacher(path, FORMAT, self, tensors, {})


def load_splats(path: Path, rasterize: Rasterize, device: torch.device | str = "cuda") -> SplatTeacher:
    """Read a teacher of splats; raises `InputError` with the file's name if it is none."""
    fitted, tensors, _ = read_teacher(path, FORMAT)
    weights = under(tensors, "gaussians.")
    gaussians = Gaussians.empty(len(weights["means"]))
    gaussians.load_state_dict(weights)
    return SplatTeacher(fitted.frame, fitted.size, fitted.backdrop, gaussians.to(device), rasterize)
