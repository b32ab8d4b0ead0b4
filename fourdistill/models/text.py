"""The frozen text encoder: prompts, and the one-token sequences of equation (1)."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTokenizer

BYPASS_NORMS = ("unit", "base")


def combine(clip_base: torch.Tensor, v_bypass: torch.Tensor, lambda_: float, bypass_norm: str) -> torch.Tensor:
    """Equation (1), CLIP(v_base) (..., D) and v_bypass (..., D) => v* = CLIP(v_base) + lambda * v_bypass / |v_bypass|.

    `bypass_norm: base` multiplies the second term by |CLIP(v_base)|, as the original code does.
    """
    direction = F.normalize(v_bypass, dim=-1)
    if bypass_norm == "base":
        direction = direction * clip_base.norm(dim=-1, keepdim=True)
    return clip_base + lambda_ * direction


def encode_single_tokens(text_encoder: nn.Module, v_base: torch.Tensor) -> torch.Tensor:
    """CLIP(v_base): every vector of (..., D) as a sequence of one token, all of them in one pass => (..., D).

    As in the original there is no start, end or position embedding, and no prompt around the token. A token alone
    attends to itself with weight 1, so that attention is its value: queries and keys need not be computed.
    """
    hook = getattr(text_encoder, "_hf_hook", None)
    if hook is not None:  # offloading hooks wait for the encoder's own forward, which is passed by here
        hook.pre_forward(text_encoder)
    model: Any = getattr(text_encoder, "text_model", text_encoder)  # CLIPTextModelWithProjection nests the encoder
    hidden_states = v_base.flatten(0, -2)  # (N, D)
    for layer in model.encoder.layers:
        attention = layer.self_attn
        hidden_states = hidden_states + attention.out_proj(attention.v_proj(layer.layer_norm1(hidden_states)))
        hidden_states = hidden_states + layer.mlp(layer.layer_norm2(hidden_states))
    return model.final_layer_norm(hidden_states).reshape(v_base.shape)


class PromptEncoder:
    """Prompts => token embeddings, each distinct prompt encoded once and kept (captions repeat for many pairs)."""

    def __init__(self, tokenizer: CLIPTokenizer, text_encoder: nn.Module, max_cached: int = 2048):
        self.tokenizer, self.text_encoder, self.max_cached = tokenizer, text_encoder, max_cached
        self.cache: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def __call__(self, prompts: list[str]) -> torch.Tensor:
        """B prompts ("" is no prompt) => (B, L, D), L the tokenizer's full length."""
        missing = sorted({prompt for prompt in prompts if prompt not in self.cache})
        if missing:
            if len(self.cache) + len(missing) > self.max_cached:
                self.cache.clear()
                missing = sorted(set(prompts))
            self.cache.update(zip(missing, self.encode(missing), strict=True))
        return torch.stack([self.cache[prompt] for prompt in prompts])

    def encode(self, prompts: list[str]) -> torch.Tensor:
        """B prompts => (B, L, D) in one pass, past any cache."""
        ids = self.tokenizer(
            prompts,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids  # (B, L)
        device = next(self.text_encoder.parameters()).device
        with torch.autocast(device.type, enabled=False):  # what is kept must not depend on who asked first
            return self.text_encoder(ids.to(device)).last_hidden_state  # (B, L, D)
