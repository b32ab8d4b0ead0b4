"""Prompts to token embeddings with the frozen text encoder."""

import torch
from torch import nn
from transformers import CLIPTokenizer


class PromptEncoder:
    """Prompts => token embeddings, each distinct prompt encoded once and cached (many pairs share a caption)."""

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
        """B prompts => (B, L, D) in one pass, without the cache."""
        ids = self.tokenizer(
            prompts,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids  # (B, L)
        device = next(self.text_encoder.parameters()).device
        with torch.autocast(device.type, enabled=False):  # cached values must not depend on the first caller
            return self.text_encoder(ids.to(device)).last_hidden_state  # (B, L, D)
