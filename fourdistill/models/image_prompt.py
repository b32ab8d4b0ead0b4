"""The image prompt of a base, frozen: image embeddings => image tokens => keys and values for every layer."""

import torch
from diffusers.models.embeddings import ImageProjection
from torch import nn

from fourdistill.models.base.projectors import Projector


class ImagePrompt(nn.Module):
    """An IP-Adapter: its projector, and `to_k_ip`, `to_v_ip` of every layer in execution order."""

    def __init__(self, projector: Projector, to_k_ip: list[nn.Linear], to_v_ip: list[nn.Linear]):
        super().__init__()
        self.projector = projector
        self.to_k_ip, self.to_v_ip = nn.ModuleList(to_k_ip), nn.ModuleList(to_v_ip)

    @property
    def reads_projection(self) -> bool:
        """Whether it reads the image encoder's projected output (B, 1, D), not hidden states (B, S, D)."""
        return isinstance(self.projector, ImageProjection)

    def forward(self, image_embeds: torch.Tensor) -> torch.Tensor:
        """image_embeds (B, S, D) => image tokens `ip_hidden_states` (B, T, cross_attention_dim)."""
        return self.projector(image_embeds)

    def keys_values(self, ip_hidden_states: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        """ip_hidden_states (B, T, D) => image keys and values, (B, T, inner width) per layer."""
        return (
            tuple(to_k(ip_hidden_states) for to_k in self.to_k_ip),
            tuple(to_v(ip_hidden_states) for to_v in self.to_v_ip),
        )
