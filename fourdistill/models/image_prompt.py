"""The image prompt of a base, frozen: image embeddings => image tokens => keys and values for every layer."""

from dataclasses import dataclass

import torch
from diffusers.models.embeddings import ImageProjection
from torch import nn

from fourdistill.models.attention import ImageContext
from fourdistill.models.base.model import IPAdapter
from fourdistill.models.base.projectors import Projector, build_projector


@dataclass(frozen=True)
class ImageTokens:
    """The tokens of a batch's images: the predicted frame i (B, T, D), and frame j if there is a source prompt."""

    predicted: torch.Tensor
    source: torch.Tensor | None = None


class ImagePrompt(nn.Module):
    """An IP-Adapter: its projector, and `to_k_ip`, `to_v_ip` of every layer in execution order."""

    def __init__(self, projector: Projector, to_k_ip: list[nn.Linear], to_v_ip: list[nn.Linear]):
        super().__init__()
        self.projector = projector
        self.to_k_ip, self.to_v_ip = nn.ModuleList(to_k_ip), nn.ModuleList(to_v_ip)

    @classmethod
    def build(cls, projector: dict[str, int], width: int, layer_widths: list[int]) -> "ImagePrompt":
        """A prompt with untrained weights: projector sizes, cross_attention_dim, inner width of each layer."""
        to_k, to_v = ([nn.Linear(width, inner, bias=False) for inner in layer_widths] for _ in range(2))
        return cls(build_projector(projector), to_k, to_v)

    def load_ip_adapter(self, ip_adapter: IPAdapter) -> None:
        """Take over the weights of a base's IP-Adapter."""
        self.projector.load_state_dict(ip_adapter.projector.state_dict())
        for mine, theirs in ((self.to_k_ip, ip_adapter.to_k_ip), (self.to_v_ip, ip_adapter.to_v_ip)):
            mine.load_state_dict(nn.ModuleList(theirs).state_dict())

    @property
    def reads_projection(self) -> bool:
        """Whether it reads the image encoder's projected output (B, 1, D), not hidden states (B, S, D)."""
        return isinstance(self.projector, ImageProjection)

    def forward(self, image_embeds: torch.Tensor) -> torch.Tensor:
        """image_embeds (B, S, D) => image tokens `ip_hidden_states` (B, T, cross_attention_dim)."""
        return self.projector(image_embeds)

    def context(self, ip_hidden_states: torch.Tensor, scale: float | torch.Tensor = 1.0) -> ImageContext:
        """ip_hidden_states (B, T, cross_attention_dim), weight of their attention, one or (B,) => keys and values."""
        scale = torch.as_tensor(scale, dtype=ip_hidden_states.dtype, device=ip_hidden_states.device).reshape(-1, 1, 1)
        keys = tuple(to_k(ip_hidden_states) for to_k in self.to_k_ip)
        return ImageContext(keys, tuple(scale * to_v(ip_hidden_states) for to_v in self.to_v_ip))
