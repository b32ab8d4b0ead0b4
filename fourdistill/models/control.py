"""v* of a batch as tokens for every layer: absent displacements are masked, those that nobody has take no token."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ControlTokens:
    """Displacement tokens of B samples for every cross-attention layer."""

    values: torch.Tensor
    """(B, num_layers, n, D)."""
    keys: torch.Tensor | None
    """The same for the keys where they differ, else None."""
    mask: torch.Tensor
    """(B, n) bool, False where a displacement is absent."""
    kinds: tuple[str, ...]
    """Of the n tokens: time, view."""


def gather_tokens(
    values: torch.Tensor, keys: torch.Tensor | None, rows: Mapping[str, torch.Tensor], batch_size: int
) -> ControlTokens:
    """Tokens of those samples that have them => tokens of all.

    `rows`: kind => which samples have it, (R,). values and keys (sum of R, num_layers, D), kind after kind.
    """

    def scatter(tokens: torch.Tensor) -> torch.Tensor:
        parts = tokens.split([len(present) for present in rows.values()])
        empty = tokens.new_zeros(batch_size, *tokens.shape[1:])  # (B, num_layers, D)
        return torch.stack([empty.index_copy(0, *each) for each in zip(rows.values(), parts, strict=True)], dim=2)

    mask = torch.zeros(batch_size, len(rows), dtype=torch.bool, device=values.device)
    for column, present in enumerate(rows.values()):
        mask[present, column] = True
    return ControlTokens(scatter(values), None if keys is None else scatter(keys), mask, tuple(rows))
