"""The original's mappers: (displacement, timestep, layer) => n words, without access to frame j.

Selected by `mapper_input: displacement`. Time and view have one network each; if both are given, the outputs are added.
"""

from collections.abc import Sequence

import torch
from torch import nn

from fourdistill.models.conditions import Conditions
from fourdistill.models.fourier import FourierFeatures
from fourdistill.models.view_encoding import VIEW_ENCODINGS, encode_view
from fourdistill.models.words import Spoken


class DisplacementMapper(nn.Module):
    """Conditions, timesteps => n words for every layer."""

    def __init__(self, sigma_time: float, sigma_view: float, view_encoding: str, *, num_words: int, **kwargs):
        """`kwargs`: arguments of `DisplacementNetwork`."""
        super().__init__()
        self.num_words, self.view_encoding = num_words, view_encoding
        self.time = DisplacementNetwork([sigma_time], num_words=num_words, **kwargs)
        self.view = DisplacementNetwork([sigma_view] * VIEW_ENCODINGS[view_encoding], num_words=num_words, **kwargs)

    def forward(self, conditions: Conditions, timesteps: torch.Tensor) -> Spoken:
        """Conditions of B samples, timesteps (B,) in [0, T) => the words for the displacements that are present."""
        moved, unit = conditions.displacement, (slice(None), *[None] * 4)
        said = self.time(moved.time[:, None], timesteps) * moved.has_time[unit]
        said = said + self.view(encode_view(moved, self.view_encoding), timesteps) * moved.has_view[unit]
        return Spoken(*said.unbind(3))

    def reverse_time(self) -> None:
        """Flip the sign of time in weights from before the displacement was target minus source."""
        self.time.features.frequencies[:, 0].neg_()


class DisplacementNetwork(nn.Module):
    """Fourier features of (displacement, timestep, layer) => MLP => n words, for all layers at once.

    Args:
        displacement_sigmas: bandwidth of each displacement input.
        sigma_timesteps, sigma_layer: bandwidths of the timestep and the layer id, both scaled to [-1, 1].
        num_layers: cross-attention layers of the base. num_train_timesteps: of the base's scheduler.
        width: of the text encoder's tokens. token_std: their standard deviation, the unit of `v_base`.
    """

    def __init__(
        self,
        displacement_sigmas: Sequence[float],
        *,
        num_words: int,
        sigma_timesteps: float,
        sigma_layer: float,
        num_layers: int,
        num_train_timesteps: int,
        num_frequencies: int,
        hidden_width: int,
        width: int,
        token_std: float,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.num_words, self.num_layers, self.num_train_timesteps = num_words, num_layers, num_train_timesteps
        self.token_std = token_std
        sigmas = [*displacement_sigmas, sigma_timesteps, sigma_layer]
        self.features = FourierFeatures(sigmas, num_frequencies, generator)
        self.mlp = nn.Sequential(
            nn.Linear(self.features.width, hidden_width),
            nn.LayerNorm(hidden_width),
            nn.LeakyReLU(),
            nn.Linear(hidden_width, hidden_width),
            nn.LayerNorm(hidden_width),
            nn.LeakyReLU(),
            nn.Linear(hidden_width, num_words * 3 * width),
        )

    def forward(self, displacement: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """displacement (B, I), timesteps (B,) => v_base, bypasses of keys and values, (B, num_layers, n, 3, D)."""
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
        said = self.mlp(self.features(inputs)).unflatten(-1, (self.num_words, 3, -1))  # (B, num_layers, n, 3, D)
        return said * torch.tensor([self.token_std, 1, 1], device=said.device, dtype=said.dtype)[:, None]
