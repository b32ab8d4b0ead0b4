"""Equation (1): n words appended to the prompt, as keys and values for every cross-attention layer.

    v* = CLIP(v_base) + lambda |CLIP(v_base)| v_bypass / |v_bypass|

Each word has one v_base and two bypasses: its v* for the keys of cross-attention determines where in the image the word
acts, its v* for the values what is generated there. (NeTI has a bypass for the values only: Alaluf et al., arXiv
2305.15391.) CLIP's last layer norm gives all of its outputs one length; the bypass is lambda times as long. As in the
original code the bypass is scaled by |CLIP(v_base)|: next to vectors of length 14 to 28, one of length lambda is
negligible.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Spoken:
    """A mapper's output for B samples; a dimension of 1 is shared by all layers."""

    v_base: torch.Tensor
    """(B, 1 or num_layers, n, D), the input of the text encoder."""
    key_bypass: torch.Tensor
    """(B, num_layers, n, D)."""
    value_bypass: torch.Tensor
    """(B, num_layers, n, D)."""


@dataclass(frozen=True)
class Words:
    """v* of n words in every layer."""

    keys: torch.Tensor
    """(B, num_layers, n, D)."""
    values: torch.Tensor
    """(B, num_layers, n, D)."""


def say(text_encoder: nn.Module, spoken: Spoken, lambda_: float | torch.Tensor) -> Words:
    """All words of all layers in one pass of the text encoder; `lambda_` is a number, or one per sample (B,)."""
    clip_base = encode_single_tokens(text_encoder, spoken.v_base)
    if isinstance(lambda_, torch.Tensor):
        lambda_ = lambda_.to(clip_base)[:, None, None, None]
    return Words(
        combine(clip_base, spoken.key_bypass, lambda_),
        combine(clip_base, spoken.value_bypass, lambda_),
    )


def combine(clip_base: torch.Tensor, v_bypass: torch.Tensor, lambda_: float | torch.Tensor) -> torch.Tensor:
    """Equation (1): CLIP(v_base) and v_bypass (..., D) => v* (..., D)."""
    direction = F.normalize(v_bypass.float(), dim=-1).to(clip_base.dtype)  # its eps underflows in half precision
    return clip_base + lambda_ * clip_base.norm(dim=-1, keepdim=True) * direction


def encode_single_tokens(text_encoder: nn.Module, v_base: torch.Tensor) -> torch.Tensor:
    """CLIP(v_base): every vector of (..., D) as a one-token sequence, all in one pass => (..., D).

    As in the original there is no start, end or position embedding, and no prompt around the token. Of two encoders (a
    `ModuleList`) each reads its own part of the vector, and their outputs are concatenated as SDXL does for a prompt:
    those of the last layer but one, without the final layer norm.
    """
    if not isinstance(text_encoder, nn.ModuleList):
        model, hidden_states = _run_layers(text_encoder, v_base)
        return model.final_layer_norm(hidden_states).reshape(v_base.shape)
    encoders: list[Any] = list(text_encoder)
    parts = v_base.split([encoder.config.hidden_size for encoder in encoders], dim=-1)
    outputs = [_run_layers(*pair, left_out=1)[1] for pair in zip(encoders, parts, strict=True)]
    return torch.cat(outputs, dim=-1).reshape(v_base.shape)


@torch.no_grad()
def clip_length(text_encoder: nn.Module, v_base: torch.Tensor) -> float:
    """|CLIP(v_base)|: the output norm of a text encoder's last layer norm.

    Where the U-Net reads the outputs of two encoders (a `ModuleList`), which pass no such norm, it is the mean for some
    v_base (N, D).
    """
    if isinstance(text_encoder, nn.ModuleList):
        dtype = next(text_encoder.parameters()).dtype
        return float(encode_single_tokens(text_encoder, v_base.to(dtype)).norm(dim=-1).mean())
    model: Any = getattr(text_encoder, "text_model", text_encoder)
    return float(model.final_layer_norm.weight.norm())


def _run_layers(text_encoder: nn.Module, v_base: torch.Tensor, left_out: int = 0) -> tuple[Any, torch.Tensor]:
    """The text model, and the hidden states (N, D) of single tokens (..., D) after all layers but the last `left_out`.

    A single token attends to itself with weight 1, so attention returns its value: queries and keys need not be
    computed.
    """
    hook = getattr(text_encoder, "_hf_hook", None)
    if hook is not None:  # offloading hooks run in the encoder's forward, which is bypassed here
        hook.pre_forward(text_encoder)
    model: Any = getattr(text_encoder, "text_model", text_encoder)  # CLIPTextModelWithProjection nests the encoder
    hidden_states = v_base.flatten(0, -2)  # (N, D)
    for layer in model.encoder.layers[: len(model.encoder.layers) - left_out]:
        attention = layer.self_attn
        hidden_states = hidden_states + attention.out_proj(attention.v_proj(layer.layer_norm1(hidden_states)))
        hidden_states = hidden_states + layer.mlp(layer.layer_norm2(hidden_states))
    return model, hidden_states
