"""Decoupled cross-attention with a separate context per layer, bound to the layers by name.

The adapter computes everything that depends on its weights (words, image keys and values); a processor holds only a
layer index. So the frozen U-Net is unchanged, gradient checkpointing recomputes the same values, and a sampler
computes them once for all steps.
"""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch.nn import functional as F

from fourdistill.models.words import Words

MAX_SCORES = 2**24  # the most attention scores to hold in memory: 64 MiB in fp32


@dataclass(frozen=True)
class Conditioning:
    """The conditioning of a U-Net call, passed as its `encoder_hidden_states`.

    text: (B, L, D) prompt tokens, the same for all layers.
    words: v* of n words for every layer, appended to the prompt, or None.
    words_seen: (B,) bool, False for samples without words; None if all have words.
    image_keys, image_values: one (B, T, inner width of the layer) each per layer; empty without an image prompt.
    image_scale: s of the decoupled attention.
    """

    text: torch.Tensor
    words: Words | None = None
    words_seen: torch.Tensor | None = None
    image_keys: tuple[torch.Tensor, ...] = ()
    image_values: tuple[torch.Tensor, ...] = ()
    image_scale: float = 1.0

    def contexts(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The text contexts of one layer for keys and values: [prompt ; words], (B, L + n, D) each."""
        if self.words is None:
            return self.text, self.text
        keys, values = self.words.keys[:, layer], self.words.values[:, layer]  # (B, n, D) each
        return torch.cat([self.text, keys], dim=1), torch.cat([self.text, values], dim=1)

    def mask(self) -> torch.Tensor | None:
        """(B, 1, 1, L + n) bool for scaled_dot_product_attention, True where a token is attended to."""
        if self.words is None or self.words_seen is None:
            return None
        prompt = torch.ones(self.text.shape[:2], dtype=torch.bool, device=self.text.device)  # (B, L)
        words = self.words_seen[:, None].expand(-1, self.words.keys.shape[2])  # (B, n)
        return torch.cat([prompt, words], dim=1)[:, None, None]


class LayerAttnProcessor:
    """Attn(Q, K_text, V_text) + s * Attn(Q, K_image, V_image) for the cross-attention layer it was built for."""

    def __init__(self, layer: int):
        self.layer = layer

    def __call__(
        self,
        attn: Any,  # a diffusers `Attention`
        hidden_states: torch.Tensor,
        encoder_hidden_states: Conditioning | torch.Tensor,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """hidden_states (B, N, C) => (B, N, C); a plain tensor as context is a prompt only, without words or image."""
        if isinstance(encoder_hidden_states, torch.Tensor):
            encoder_hidden_states = Conditioning(text=encoder_hidden_states)
        conditioning, residual = encoder_hidden_states, hidden_states

        key_context, value_context = conditioning.contexts(self.layer)  # (B, L + n, D) each
        query = split_heads(attn, attn.to_q(hidden_states))  # (B, heads, N, d)
        key = split_heads(attn, attn.to_k(key_context))  # (B, heads, L + n, d)
        value = split_heads(attn, attn.to_v(value_context))  # (B, heads, L + n, d)
        out = attend(query, key, value, conditioning.mask())  # (B, heads, N, d)

        if conditioning.image_keys:
            image_key = split_heads(attn, conditioning.image_keys[self.layer].to(query.dtype))  # (B, heads, T, d)
            image_value = split_heads(attn, conditioning.image_values[self.layer].to(query.dtype))  # (B, heads, T, d)
            out = out + conditioning.image_scale * attend(query, image_key, image_value)

        out = out.transpose(1, 2).flatten(2)  # (B, N, heads * d)
        out = attn.to_out[1](attn.to_out[0](out))  # (B, N, C)
        if attn.residual_connection:
            out = out + residual
        return out / attn.rescale_output_factor


class SelfAttnProcessor:
    """Diffusers' self-attention, computed by matrix products where `prefers_products` is true."""

    def __init__(self) -> None:
        self.fused, self.products = AttnProcessor2_0(), AttnProcessor()

    def __call__(self, attn: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """hidden_states (B, N, C) => (B, N, C)."""
        num_samples, num_tokens = len(hidden_states), hidden_states.shape[1:-1].numel()
        products = prefers_products(hidden_states, num_samples * attn.heads * num_tokens**2)
        return (self.products if products else self.fused)(attn, hidden_states, *args, **kwargs)


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Attention of queries (B, heads, N, d) to keys and values (B, heads, T, d) => (B, heads, N, d).

    `mask` (B, 1, 1, T) is True where a token is attended to.
    """
    if not prefers_products(query, query.shape[:-1].numel() * key.shape[-2]):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)  # (B, heads, N, T)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(dim=-1) @ value


def prefers_products(hidden_states: torch.Tensor, num_scores: int) -> bool:
    """Whether attention is faster without torch's fused kernel and fits into memory.

    On a CPU the kernel's backward pass is several times slower than that of matrix products, but these hold all scores
    in memory.
    """
    return torch.is_grad_enabled() and hidden_states.device.type == "cpu" and num_scores <= MAX_SCORES


def split_heads(attn: Any, x: torch.Tensor) -> torch.Tensor:
    """(B, N, heads * d) => (B, heads, N, d)."""
    return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)


def cross_attention_names(unet: UNet2DConditionModel) -> list[str]:
    """Names of the cross-attention modules in execution order: down, mid, up.

    `unet.attn_processors` lists them in another order (down, up, mid): never use it to number layers.
    """
    names = []
    for part in ("down_blocks", "mid_block", "up_blocks"):
        block = getattr(unet, part)
        if block is not None:
            names += [f"{part}.{name}" for name, _ in block.named_modules() if name.endswith(".attn2")]
    return names


def install_processors(unet: UNet2DConditionModel) -> list[str]:
    """Install each layer's processor in its cross-attention module; return the modules' names."""
    names = cross_attention_names(unet)
    processors: dict[str, Any] = {name: SelfAttnProcessor() for name in unet.attn_processors}
    processors.update({f"{name}.processor": LayerAttnProcessor(layer) for layer, name in enumerate(names)})
    unet.set_attn_processor(processors)
    return names
