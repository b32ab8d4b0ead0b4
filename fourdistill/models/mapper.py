"""The Time and View Mappers: (displacement, timestep, layer) => (v_base, v_bypass)."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from fourdistill.models.fourier import FourierFeatures

VIEW_ENCODINGS = {"spherical": 4, "matrix": 12}  # name -> number of inputs of the View Mapper


def encode_view(delta_spherical: torch.Tensor, relative_pose: torch.Tensor, encoding: str) -> torch.Tensor:
    """A camera displacement => the View Mapper's input (B, 4) or (B, 12).

    `delta_spherical` (B, 3) is (azimuth, elevation) in radians and radius over the scene's scale; `relative_pose`
    (B, 12) holds the rows of the 3x4 `source_from_target`. `spherical` is safe where the azimuth wraps around.
    """
    if encoding == "matrix":
        return relative_pose
    azimuth, elevation, radius = delta_spherical.unbind(-1)
    return torch.stack([azimuth.sin(), azimuth.cos(), elevation, radius], dim=-1)  # (B, 4)


class Mapper(nn.Module):
    """Fourier features of (displacement, timestep, layer) => MLP => v_base and v_bypass, for every layer at once.

    The hidden units are ordered where they are trained with nested dropout (NeTI: Alaluf et al., arXiv 2305.15391,
    section 4.3): `keep` zeroes all but the first of them, and fewer of them say less, and less of the training scenes.

    Args:
        displacement_sigmas: bandwidth of each displacement input.
        sigma_timesteps, sigma_layer: bandwidths of the timestep and the layer id, both scaled to [-1, 1].
        num_layers: cross-attention layers of the base. num_train_timesteps: of the base's scheduler.
        width: of the text encoder's tokens. token_std: their standard deviation, the unit of `v_base`.
        rescale_base: give `v_base` the norm of a token embedding (ViewNeTI: Burgess et al., arXiv 2309.07986).
    """

    def __init__(
        self,
        displacement_sigmas: Sequence[float],
        *,
        sigma_timesteps: float,
        sigma_layer: float,
        num_layers: int,
        num_train_timesteps: int,
        num_frequencies: int,
        hidden_width: int,
        width: int,
        token_std: float,
        rescale_base: bool = False,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.num_layers, self.num_train_timesteps, self.token_std = num_layers, num_train_timesteps, token_std
        self.hidden_width, self.rescale_base = hidden_width, rescale_base
        sigmas = [*displacement_sigmas, sigma_timesteps, sigma_layer]
        self.features = FourierFeatures(sigmas, num_frequencies, generator)
        self.mlp = nn.Sequential(
            nn.Linear(self.features.width, hidden_width),
            nn.LayerNorm(hidden_width),
            nn.LeakyReLU(),
            nn.Linear(hidden_width, hidden_width),
            nn.LayerNorm(hidden_width),
            nn.LeakyReLU(),
            nn.Linear(hidden_width, 2 * width),
        )

    def forward(
        self, displacement: torch.Tensor, timesteps: torch.Tensor, keep: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """displacement (B, I), timesteps (B,) in [0, T) => v_base and v_bypass, (B, num_layers, D) each.

        `keep` (B,) is how many hidden units of each sample are kept; None keeps all.
        """
        dtype = self.features.frequencies.dtype
        t = 2 * timesteps.to(dtype) / self.num_train_timesteps - 1  # (B,)
        layer = torch.linspace(-1, 1, self.num_layers, device=t.device, dtype=dtype)  # (num_layers,)
        grid = (len(t), self.num_layers)
        inputs = torch.cat(
            [
                displacement.to(dtype)[:, None].expand(*grid, -1),
                t[:, None, None].expand(*grid, 1),
                layer[None, :, None].expand(*grid, 1),
            ],
            dim=-1,
        )  # (B, num_layers, I + 2)
        hidden = self.mlp[:-1](self.features(inputs))  # (B, num_layers, hidden_width)
        if keep is not None:
            kept = torch.arange(self.hidden_width, device=keep.device) < keep[:, None]  # (B, hidden_width)
            hidden = hidden * kept[:, None]
        v_base, v_bypass = self.mlp[-1](hidden).chunk(2, dim=-1)  # (B, num_layers, D) each
        if self.rescale_base:
            v_base = F.normalize(v_base, dim=-1) * v_base.shape[-1] ** 0.5
        return v_base * self.token_std, v_bypass


class TimeMapper(Mapper):
    """Mapper of a displacement in time: `delta_time` (B, 1) in [-1, 1], positive leads to an earlier instant."""

    def __init__(self, sigma_time: float, **kwargs):
        super().__init__([sigma_time], **kwargs)


class ViewMapper(Mapper):
    """Mapper of a camera displacement: the output of `encode_view`."""

    def __init__(self, sigma_view: float, view_encoding: str, **kwargs):
        super().__init__([sigma_view] * VIEW_ENCODINGS[view_encoding], **kwargs)
