"""The mapper: image tokens of the predicted frame i => n words for every layer.

A displacement is relative: alone, it does not determine the target. So the prior predicts frame i from frame j and the
displacement (`models.prior`), the image prompt's projector turns the prediction into image tokens, and the mapper turns
the tokens into words.
"""

import torch
from torch import nn
from torch.nn import functional as F

from fourdistill.models.base.model import IPAdapter
from fourdistill.models.base.projectors import output_norm
from fourdistill.models.words import Spoken


class Mapper(nn.Module):
    """Image tokens (B, T, C) => n words: one v_base for all layers, and the bypasses of each layer.

    Args:
        num_layers: cross-attention layers of the base. num_tokens, token_width: T, C of the image tokens.
        num_words: n; if it is not T, words are initialized as averages of neighbouring tokens.
        width: of the text encoder's tokens. token_std: their standard deviation, the unit of `v_base`.
    """

    def __init__(
        self,
        num_layers: int,
        num_tokens: int,
        token_width: int,
        *,
        num_words: int,
        width: int,
        token_std: float,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.token_std = token_std
        self.pool = nn.Linear(num_tokens, num_words, bias=False) if num_words != num_tokens else None
        self.word = nn.Parameter(torch.randn(num_words, width, generator=generator))  # distinguishes the words
        self.to_base = nn.Linear(token_width, width)
        self.to_key = nn.ModuleList(nn.Linear(token_width, width) for _ in range(num_layers))
        self.to_value = nn.ModuleList(nn.Linear(token_width, width) for _ in range(num_layers))

    def forward(self, tokens: torch.Tensor) -> Spoken:
        """Image tokens (B, T, C) => the words' vectors, which are the same at every timestep."""
        if self.pool is not None:
            tokens = self.pool(tokens.transpose(1, 2)).transpose(1, 2)  # (B, n, C)
        v_base = (self.to_base(tokens) + self.word) * self.token_std  # (B, n, D)
        return Spoken(
            v_base[:, None],
            torch.stack([to_key(tokens) for to_key in self.to_key], dim=1),
            torch.stack([to_value(tokens) for to_value in self.to_value], dim=1),
        )

    @torch.no_grad()
    def start_from(self, ip_adapter: IPAdapter, to_k: list[nn.Linear], to_v: list[nn.Linear], length: float) -> None:
        """Initialize the words so that the text branch renders them nearly as the image prompt renders the tokens.

        A word's keys are then those of its token, W_k_ip x, via the pseudo-inverse of the text branch's W_k; likewise
        its values. Bypasses are normalized to `length`, |lambda CLIP(v_base)|: a shorter bypass is padded along a
        direction in the null space of W_k (or W_v). A layer wider than its text has no such direction, so its words
        start too long.
        """
        if self.pool is not None:
            num_words, num_tokens = self.pool.weight.shape
            self.pool.weight.copy_(F.adaptive_avg_pool1d(torch.eye(num_tokens), num_words).T)  # (n, T)
        norm = output_norm(ip_adapter.projector)  # it sets the size of the tokens
        for maps, images, texts in (
            (self.to_key, ip_adapter.to_k_ip, to_k),
            (self.to_value, ip_adapter.to_v_ip, to_v),
        ):
            for own, image, text in zip(maps, images, texts, strict=True):
                assert isinstance(own, nn.Linear)
                own.weight.copy_(torch.linalg.pinv(text.weight) @ image.weight)  # (D, C)
                squared = (own.weight * norm.weight).square().sum() + (own.weight @ norm.bias).square().sum()
                own.bias.copy_(unseen(text.weight) * (length**2 - squared).clamp(min=0).sqrt())


def unseen(weight: torch.Tensor) -> torch.Tensor:
    """A linear map (inner, D) => a unit vector (D,) in its null space, or zeros if there is none."""
    inner, width = weight.shape
    if inner >= width:
        return weight.new_zeros(width)
    return torch.linalg.svd(weight).Vh[-1]
