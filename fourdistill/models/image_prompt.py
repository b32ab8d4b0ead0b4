"""The image prompt: condition image and displacement => image tokens => keys and values for every layer.

The projector is IP-Adapter Plus's resampler. Beside the image embeddings it reads displacement tokens, so that the
image tokens can show the subject as it looks after the displacement, not only as it looks in the condition image.
"""

from typing import Any

import torch
from diffusers.models.embeddings import IPAdapterPlusImageProjection
from torch import nn

from fourdistill.models.fourier import FourierFeatures


class DisplacementTokens(nn.Module):
    """A displacement => tokens of the image embeddings' width, and a shift of the resampler's queries.

    The shift starts at zero and the tokens can be masked: an absent displacement leaves the base's image prompt as
    it was.
    """

    def __init__(
        self,
        inputs: int,
        sigma: float,
        *,
        num_tokens: int,
        num_frequencies: int,
        width: int,
        num_queries: int,
        query_width: int,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.num_tokens, self.num_queries = num_tokens, num_queries
        self.features = FourierFeatures([sigma] * inputs, num_frequencies, generator)
        self.mlp = nn.Sequential(
            nn.Linear(self.features.width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )  # fmt: skip
        self.to_tokens = nn.Linear(width, num_tokens * width)
        self.to_shift = nn.Linear(width, num_queries * query_width)

    def forward(self, displacement: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """displacement (B, I) => tokens (B, n, D) and query shift (B, num_queries, query_width)."""
        hidden = self.mlp(self.features(displacement))  # (B, D)
        tokens = self.to_tokens(hidden).unflatten(-1, (self.num_tokens, -1))  # (B, n, D)
        shift = self.to_shift(hidden).unflatten(-1, (self.num_queries, -1))  # (B, T, query_width)
        return tokens, shift


def resample(
    projector: IPAdapterPlusImageProjection,
    x: torch.Tensor,
    seen: torch.Tensor | None = None,
    shift: torch.Tensor | None = None,
) -> torch.Tensor:
    """The projector's own forward with a mask on its inputs and a shift of its queries.

    x (B, S, D), seen (B, S) bool, shift (B, T, query_width) => image tokens (B, T, cross_attention_dim). Without mask
    and shift it equals `projector(x)`.
    """
    latents = projector.latents.expand(len(x), -1, -1)  # (B, T, query_width)
    if shift is not None:
        latents = latents + shift
    bias = None
    if seen is not None:  # the queries also attend to themselves
        seen = torch.cat([seen, seen.new_ones(latents.shape[:2])], dim=1)  # (B, S + T)
        bias = torch.zeros_like(seen, dtype=x.dtype).masked_fill(~seen, float("-inf"))[:, None]  # (B, 1, S + T)
    x = projector.proj_in(x)  # (B, S, query_width)
    block: Any
    for block in projector.layers:
        queries = block.ln1(latents)
        context = torch.cat([block.ln0(x), queries], dim=1)  # (B, S + T, query_width)
        latents = block.attn(queries, context, attention_mask=bias) + latents
        latents = block.ff(latents) + latents
    return projector.norm_out(projector.proj_out(latents))


class ImagePrompt(nn.Module):
    """Projector, per-layer `to_k_ip`/`to_v_ip`, and the displacement tokens of time and view (or None)."""

    def __init__(
        self,
        projector: IPAdapterPlusImageProjection,
        to_k_ip: list[nn.Linear],
        to_v_ip: list[nn.Linear],
        time_tokens: DisplacementTokens | None,
        view_tokens: DisplacementTokens | None,
    ):
        super().__init__()
        self.projector = projector
        self.to_k_ip, self.to_v_ip = nn.ModuleList(to_k_ip), nn.ModuleList(to_v_ip)
        self.time_tokens, self.view_tokens = time_tokens, view_tokens

    def forward(
        self,
        image_embeds: torch.Tensor,
        delta_time: torch.Tensor,
        has_time: torch.Tensor,
        view: torch.Tensor,
        has_view: torch.Tensor,
    ) -> torch.Tensor:
        """image_embeds (B, S, D), delta_time (B, 1), view (B, I), has_* (B,) bool => ip_hidden_states (B, T, D)."""
        x, seen, shift = [image_embeds], [torch.ones_like(has_time)[:, None].expand(image_embeds.shape[:2])], None
        for module, displacement, present in (
            (self.time_tokens, delta_time, has_time),
            (self.view_tokens, view, has_view),
        ):
            if module is None or not present.any():
                continue
            tokens, module_shift = module(displacement)
            x.append(tokens)
            seen.append(present[:, None].expand(tokens.shape[:2]))
            module_shift = module_shift * present[:, None, None]
            shift = module_shift if shift is None else shift + module_shift
        mask = torch.cat(seen, dim=1)  # (B, S + n)
        return resample(self.projector, torch.cat(x, dim=1), None if mask.all() else mask, shift)

    def keys_values(self, ip_hidden_states: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        """ip_hidden_states (B, T, D) => image keys and values, (B, T, inner width) per layer."""
        return (
            tuple(to_k(ip_hidden_states) for to_k in self.to_k_ip),
            tuple(to_v(ip_hidden_states) for to_v in self.to_v_ip),
        )
