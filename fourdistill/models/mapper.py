"""The mapper: image tokens of the predicted frame i => n words for every layer.

A displacement is relative: alone, it does not determine the target. So the prior predicts frame i from frame j and the
displacement (`models.prior`), the image prompt's projector turns the prediction into image tokens, and the mapper turns
the tokens into words.
"""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional as F

from fourdistill.models.base.model import IPAdapter
from fourdistill.models.base.projectors import output_norm
from fourdistill.models.words import Spoken


class LowRank(nn.Module):
    """A linear map whose weights are fixed, plus a trained map of low rank and a trained bias.

    As in LoRA (Hu et al., arXiv 2106.09685). The fixed weights follow from the base, so they are never saved.
    """

    weight: torch.Tensor

    def __init__(self, inputs: int, outputs: int, rank: int, generator: torch.Generator | None = None):
        super().__init__()
        self.register_buffer("weight", torch.zeros(outputs, inputs), persistent=False)
        self.down = nn.Parameter(torch.randn(rank, inputs, generator=generator) * inputs**-0.5)
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., inputs) => (..., outputs)."""
        return F.linear(x, self.weight, self.bias) + F.linear(F.linear(x, self.down), self.up)


class Mapper(nn.Module):
    """Image tokens (B, T, C) => n words: one v_base for all layers, and the bypasses of each layer.

    Args:
        num_layers: cross-attention layers of the base. num_tokens, token_width: T, C of the image tokens.
        num_words: n; if it is not T, words are initialized as averages of neighbouring tokens.
        width: of the text encoder's tokens. token_std: their standard deviation, the unit of `v_base`.
        rank: of what is trained of the maps to bypasses; None: all of them is.
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
        rank: int | None = None,
        generator: torch.Generator | None = None,
    ):
        super().__init__()

        def to_bypasses() -> nn.ModuleList:
            if rank is None:
                return nn.ModuleList(nn.Linear(token_width, width) for _ in range(num_layers))
            return nn.ModuleList(LowRank(token_width, width, rank, generator) for _ in range(num_layers))

        self.token_std = token_std
        self.pool = nn.Linear(num_tokens, num_words, bias=False) if num_words != num_tokens else None
        self.word = nn.Parameter(torch.randn(num_words, width, generator=generator))  # distinguishes the words
        self.to_base = nn.Linear(token_width, width)
        self.to_key, self.to_value = to_bypasses(), to_bypasses()

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
        self.restore(ip_adapter.to_k_ip, ip_adapter.to_v_ip, to_k, to_v)
        for maps, texts in ((self.to_key, to_k), (self.to_value, to_v)):
            for own, text in zip(maps, texts, strict=True):
                assert isinstance(own, (nn.Linear, LowRank))
                squared = (own.weight * norm.weight).square().sum() + (own.weight @ norm.bias).square().sum()
                own.bias.copy_(unseen(text.weight) * (length**2 - squared).clamp(min=0).sqrt())

    @torch.no_grad()
    def restore(
        self,
        to_k_ip: Iterable[nn.Module],
        to_v_ip: Iterable[nn.Module],
        to_k: Iterable[nn.Module],
        to_v: Iterable[nn.Module],
    ) -> None:
        """Set the weights of the maps to the closed form, from the image prompt's and the text branch's layers."""
        for maps, images, texts in ((self.to_key, to_k_ip, to_k), (self.to_value, to_v_ip, to_v)):
            for own, image, text in zip(maps, images, texts, strict=True):
                assert isinstance(own, (nn.Linear, LowRank)) and isinstance(image, nn.Linear)
                assert isinstance(text, nn.Linear)
                own.weight.copy_(solve(text.weight.to(own.weight), image.weight.to(own.weight)))  # (D, C)


def solve(weight: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Linear maps W (inner, D), Y (inner, C) => the smallest X (D, C) with the least |W X - Y|.

    By the pseudo-inverse of the smaller of W W^T and W^T W, in double precision: faster than singular values of W.
    """
    W, Y = weight.double(), target.double()
    if len(W) <= W.shape[1]:
        return (W.T @ (torch.linalg.pinv(W @ W.T, hermitian=True) @ Y)).to(weight.dtype)
    return (torch.linalg.pinv(W.T @ W, hermitian=True) @ (W.T @ Y)).to(weight.dtype)


def unseen(weight: torch.Tensor) -> torch.Tensor:
    """A linear map (inner, D) => a unit vector (D,) in its null space, or zeros if there is none."""
    inner, width = weight.shape
    if inner >= width:
        return weight.new_zeros(width)
    return torch.linalg.svd(weight).Vh[-1]
