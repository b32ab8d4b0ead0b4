"""Prompts to token embeddings with the frozen text encoders: one, or two whose outputs SDXL concatenates."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Prompts:
    """What the U-Net reads of B prompts.

    tokens: (B, L, D), for cross-attention. pooled: (B, P), beside it, of SDXL; None for other bases.
    """

    tokens: torch.Tensor
    pooled: torch.Tensor | None = None

    def __getitem__(self, rows: slice) -> "Prompts":
        """Some of the prompts."""
        return Prompts(self.tokens[rows], None if self.pooled is None else self.pooled[rows])

    @staticmethod
    def cat(parts: Iterable["Prompts"]) -> "Prompts":
        """Concatenate the prompts of one base."""
        parts = list(parts)
        pooled = [part.pooled for part in parts if part.pooled is not None]
        return Prompts(torch.cat([part.tokens for part in parts]), torch.cat(pooled) if pooled else None)

    def added(self, height: int, width: int) -> dict[str, torch.Tensor] | None:
        """The U-Net's `added_cond_kwargs` for images of this size in pixels; None for a base that has none.

        SDXL was trained on resized and cropped images and is told of both: here an image is neither.
        """
        if self.pooled is None:
            return None
        original, corner, target = (height, width), (0, 0), (height, width)
        sizes = torch.tensor([original + corner + target], device=self.pooled.device, dtype=self.pooled.dtype)
        return {"text_embeds": self.pooled, "time_ids": sizes.expand(len(self.pooled), -1)}


def text_encoders_of(model: Any) -> nn.Module:
    """The text encoder of a base or pipeline, or both of SDXL's as a `ModuleList`."""
    first, second = model.text_encoder, model.text_encoder_2
    return first if second is None else nn.ModuleList([first, second])


def each_encoder(text_encoders: nn.Module) -> Sequence[Any]:
    """`text_encoders_of` a model as a sequence of one or two."""
    return list(text_encoders) if isinstance(text_encoders, nn.ModuleList) else [text_encoders]


class PromptEncoder:
    """Prompts => `Prompts`, each distinct prompt encoded once and cached (many pairs share a caption).

    `zero_empty`: an empty prompt is all zeros instead of the encoding of "", as SDXL was trained.
    """

    def __init__(
        self, tokenizers: Sequence[Any], text_encoders: nn.Module, *, zero_empty: bool = False, max_cached: int = 2048
    ):
        self.tokenizers, self.text_encoders = tokenizers, text_encoders
        self.zero_empty, self.max_cached = zero_empty, max_cached
        self.cache: dict[str, Prompts] = {}

    @classmethod
    def of(cls, model: Any, zero_empty: bool = False) -> "PromptEncoder":
        """The prompt encoder of a base or pipeline."""
        tokenizers = [each for each in (model.tokenizer, model.tokenizer_2) if each is not None]
        return cls(tokenizers, text_encoders_of(model), zero_empty=zero_empty)

    @torch.no_grad()
    def __call__(self, prompts: list[str]) -> Prompts:
        """B prompts; "" is no prompt. L is the tokenizer's full length."""
        missing = sorted({prompt for prompt in prompts if prompt not in self.cache})
        if missing:
            if len(self.cache) + len(missing) > self.max_cached:
                self.cache.clear()
                missing = sorted(set(prompts))
            encoded = self.encode(missing)
            self.cache.update((prompt, encoded[i : i + 1]) for i, prompt in enumerate(missing))
        return Prompts.cat(self.cache[prompt] for prompt in prompts)

    def encode(self, prompts: list[str]) -> Prompts:
        """B prompts in one pass, without the cache."""
        encoders = each_encoder(self.text_encoders)
        outputs = [self.run(*pair, prompts) for pair in zip(self.tokenizers, encoders, strict=True)]
        if len(outputs) == 1:
            return Prompts(outputs[0].last_hidden_state)
        tokens = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)  # (B, L, D)
        pooled = outputs[-1].text_embeds  # (B, P)
        if self.zero_empty:
            said = torch.tensor([bool(prompt) for prompt in prompts], device=tokens.device)
            tokens, pooled = tokens * said[:, None, None], pooled * said[:, None]
        return Prompts(tokens, pooled)

    def run(self, tokenizer: Any, text_encoder: nn.Module, prompts: list[str]) -> Any:
        """One text encoder's output for B prompts."""
        ids = tokenizer(
            prompts, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
        ).input_ids  # (B, L)
        device = next(text_encoder.parameters()).device
        with torch.autocast(device.type, enabled=False):  # cached values must not depend on the first caller
            return text_encoder(ids.to(device), output_hidden_states=isinstance(self.text_encoders, nn.ModuleList))
