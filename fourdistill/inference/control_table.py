"""v* for a whole sampling, made in one pass: every timestep, every layer, every distinct displacement once.

Images of one sweep share their instants and cameras, so a grid of R cameras and C instants needs the words of R + C
displacements, not of 2 * R * C.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from fourdistill.models.adapter import Adapter
from fourdistill.models.conditions import Conditions

MAX_TOKENS = 1 << 14  # that go through the text encoder at once, if one displacement's are not more


@dataclass(frozen=True)
class DisplacementWords:
    """The words of one kind of displacement: time, or view."""

    values: torch.Tensor
    """(S, U, num_layers, D): timesteps, distinct displacements."""
    keys: torch.Tensor | None
    """The same for the keys where they differ, else None."""
    rows: torch.Tensor
    """(B,) which of the U a sample has; -1: none."""


@dataclass(frozen=True)
class ControlTable:
    """The words of B samples at S timesteps; `words` holds the kinds that any sample has."""

    words: Mapping[str, DisplacementWords]

    def __getitem__(self, index: slice) -> "ControlTable":
        """The same for some of the samples."""
        return ControlTable({kind: replace(words, rows=words.rows[index]) for kind, words in self.words.items()})

    @property
    def seen(self) -> torch.Tensor:
        """(B, n) bool, False where a sample has no displacement of the kind."""
        return torch.stack([words.rows >= 0 for words in self.words.values()], dim=1)

    def at(self, step: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Values and keys of one timestep, (B, num_layers, n, D); what is absent holds another's, to be masked."""
        values, keys = [], []
        for words in self.words.values():
            rows = words.rows.clamp(min=0)
            values.append(words.values[step, rows])  # (B, num_layers, D)
            if words.keys is not None:
                keys.append(words.keys[step, rows])
        return torch.stack(values, dim=2), torch.stack(keys, dim=2) if keys else None


def tabulate(
    adapter: Adapter,
    text_encoder: nn.Module,
    conditions: Conditions,
    timesteps: torch.Tensor,
    lambda_: float | None = None,
    truncation: int | None = None,
) -> ControlTable | None:
    """Conditions of B samples, timesteps (S,) => their words; None when no sample has a displacement.

    `truncation` keeps so many hidden units of the mappers, see `Mapper`.
    """
    distinct = {
        "time": _distinct(conditions.delta_time[:, None], conditions.has_time),
        "view": _distinct(conditions.view, conditions.has_view),
    }
    table = {}
    for kind, (displacements, rows) in distinct.items():
        if len(displacements) == 0:
            continue
        per_pass = max(1, MAX_TOKENS // (len(timesteps) * len(adapter.config.base_facts.layer_names)))
        parts = [
            _words(adapter, text_encoder, _alone(kind, some, conditions), timesteps, lambda_, truncation)
            for some in displacements.split(per_pass)
        ]
        values = torch.cat([values for values, _ in parts], dim=1)  # (S, U, num_layers, D)
        keys = [keys for _, keys in parts if keys is not None]
        table[kind] = DisplacementWords(values, torch.cat(keys, dim=1) if keys else None, rows)
    return ControlTable(table) if table else None


def _distinct(displacements: torch.Tensor, present: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Displacements (B, I), present (B,) => the distinct ones (U, I), and which of them each sample has (B,)."""
    distinct, inverse = displacements[present].unique(dim=0, return_inverse=True)
    rows = torch.full_like(present, -1, dtype=torch.long)
    rows[present] = inverse
    return distinct, rows


def _alone(kind: str, displacements: torch.Tensor, like: Conditions) -> Conditions:
    """Conditions of U samples that have displacements (U, I) of one kind, and nothing else."""
    num = len(displacements)
    yes = torch.ones(num, dtype=torch.bool, device=displacements.device)
    is_time = kind == "time"
    return Conditions(
        image_embeds=like.image_embeds.new_zeros(num, 0, like.image_embeds.shape[-1]),
        delta_time=displacements[:, 0] if is_time else displacements.new_zeros(num),
        has_time=yes & is_time,
        view=displacements.new_zeros(num, like.view.shape[-1]) if is_time else displacements,
        has_view=yes & (not is_time),
    )


def _words(
    adapter: Adapter,
    text_encoder: nn.Module,
    conditions: Conditions,
    timesteps: torch.Tensor,
    lambda_: float | None,
    truncation: int | None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The words of U displacements of one kind, and their keys, (S, U, num_layers, D) each, in one pass."""
    num_steps, num = len(timesteps), len(conditions.has_time)
    repeated = conditions[torch.arange(num, device=timesteps.device).repeat(num_steps)]  # (S * U)
    repeated_timesteps = timesteps.repeat_interleave(num)  # (S * U,)
    keep = None if truncation is None else torch.full_like(repeated_timesteps, truncation)
    tokens = adapter.control_tokens(text_encoder, repeated, repeated_timesteps, lambda_, keep)
    assert tokens is not None
    values = tokens.values[:, :, 0].unflatten(0, (num_steps, num))  # (S, U, num_layers, D)
    return values, None if tokens.keys is None else tokens.keys[:, :, 0].unflatten(0, (num_steps, num))
